"""Files of earlier formats, and files that may only be read."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dsrl.errors import StoreError
from dsrl.storage.sqlite import Schema, connect, connect_to_read, transaction
from dsrl.teaching.batches import list_batches
from dsrl.teaching.budget import Budget
from dsrl.teaching.reply_store import ReplyStore, read_spending, read_statistics
from dsrl.teaching.schema import SCHEMA

DATA = Path(__file__).parent / "data"
KEY = "0123456789abcdef" * 4
#: A format that may follow on this one.
NEXT = Schema(SCHEMA.version + 1, SCHEMA.tables, {**SCHEMA.migrations, SCHEMA.version: "CREATE TABLE more (x);"})


@pytest.fixture(params=[1, 2, 3])
def old_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a copy of a file that dsrl wrote when its format was the parameter."""
    return Path(shutil.copy(DATA / f"calls-format-{request.param}.db", tmp_path / "calls.db"))


def columns(database: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    names = [name for (name,) in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
    return {name: database.execute(f"PRAGMA table_info({name})").fetchall() for name in names}


def test_what_an_earlier_format_holds_is_there_after_it_was_opened(old_file: Path) -> None:
    version = version_of(old_file)

    async def work() -> None:
        calls = ReplyStore(old_file, "run")
        replies = calls.read_replies(KEY, range(10))
        assert [replies[n].text for n in range(4)] == [f"reply {n} ä" for n in range(4)]
        assert [replies[n].finish_reason for n in range(4)] == ["stop", "stop", "stop", "length"]
        budget = Budget(10.0, calls)
        assert budget._spent == 0.25 + (0.1875 if version > 1 else 0.0), "what is on hold is counted"
        await calls.close()

    asyncio.run(work())
    spent = read_spending(old_file, "run")
    assert (spent.calls, spent.cost_usd, spent.priced) == (3 if version > 1 else 2, 0.25, False)
    assert [(line.purpose, line.replies) for line in spent.lines] == [("write", 3), ("solve", 1)]
    means = read_statistics(old_file, "write", "openai", "gpt-4o")
    assert means is not None
    assert (means.calls, means.replies, means.prompt_tokens) == (1, 3, 300.0)
    if version > 1:
        lost, out = list_batches(old_file)
        assert (out.provider_id, out.status, out.requests) == ("batch_7", "in_progress", 1)
        assert lost.status == ("failed" if version == 2 else "submitting"), "format 2 has no name to find it by"
    assert version_of(old_file) == SCHEMA.version


def test_a_migrated_file_is_built_as_a_new_one(old_file: Path) -> None:
    connect(old_file, SCHEMA, durable=True).close()
    connect(old_file.with_name("new.db"), SCHEMA, durable=True).close()
    with closing(sqlite3.connect(old_file)) as old, closing(sqlite3.connect(old_file.with_name("new.db"))) as new:
        assert columns(old) == columns(new)
        assert old.execute("PRAGMA foreign_key_check").fetchall() == []
        assert old.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_migration_that_fails_changes_nothing(old_file: Path) -> None:
    before = old_file.read_bytes()
    faulty = Schema(NEXT.version, "", {**NEXT.migrations, SCHEMA.version: "CREATE TABLE more (x); DROP TABLE none;"})
    with pytest.raises(StoreError, match=r"no such table: none.*nothing was changed"):
        connect(old_file, faulty, durable=True)
    assert old_file.read_bytes() == before


def test_processes_that_open_an_earlier_format_together_migrate_it_once(old_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dsrl.teaching.reply_store import ReplyStore; "
        "ReplyStore(Path(sys.argv[1]), 'run')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(old_file)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 3, told
    assert version_of(old_file) == SCHEMA.version
    assert len(read_spending(old_file, "run").lines) == 2


def test_the_next_format_can_be_reached_from_all(old_file: Path) -> None:
    with closing(connect_to_read(old_file, NEXT)) as database:
        assert database.execute("SELECT count(*) FROM more").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM replies WHERE number < 4").fetchone() == (4,)
    connect(old_file, NEXT, durable=True).close()
    assert version_of(old_file) == NEXT.version
    with pytest.raises(StoreError, match=r"newer version of dsrl \(format \d, this one reads \d\); update dsrl"):
        connect(old_file, SCHEMA, durable=True)


def test_looking_at_an_earlier_format_writes_nothing(old_file: Path) -> None:
    before = old_file.read_bytes()
    assert read_spending(old_file, "run").cost_usd == 0.25
    assert old_file.read_bytes() == before
    assert os.listdir(old_file.parent) == ["calls.db"]


# --- a disk or folder that is read-only ------------------------------------------------------------------------------

LOOK = (
    "import os, sys; from pathlib import Path; from dsrl.teaching.reply_store import read_spending\n"
    "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    "print(read_spending(Path(sys.argv[1]), 'run').cost_usd)\n"
)


def look(path: Path) -> str:
    """Look at a file as a user who may not write to it."""
    environment = {**os.environ, "TMPDIR": "/tmp"}
    command = [sys.executable, "-c", LOOK, str(path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 0, process.stderr
    return str(process.stdout.strip())


@pytest.fixture
def shelf() -> Path:
    """Give a folder that every user can reach."""
    import tempfile

    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder  # type: ignore[misc]
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("version", [1, 3])
def test_a_file_in_a_folder_that_is_read_only_is_read(shelf: Path, version: int) -> None:
    path = Path(shutil.copy(DATA / f"calls-format-{version}.db", shelf / "calls.db"))
    path.chmod(0o444)
    shelf.chmod(0o555)
    assert look(path) == "0.25"
    assert os.listdir(shelf) == ["calls.db"]


@pytest.mark.parametrize("shm", [True, False])
def test_what_a_killed_run_left_in_a_folder_that_is_read_only_is_read(shelf: Path, shm: bool) -> None:
    """The last replies are in the -wal alone."""
    path = Path(shutil.copy(DATA / "calls-format-3.db", shelf / "calls.db"))
    code = (
        "import os, sqlite3, sys\nd = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "d.execute('UPDATE calls SET cost_usd = 0.5 WHERE id = 1')\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert (shelf / "calls.db-wal").stat().st_size
    if not shm:
        (shelf / "calls.db-shm").unlink()
    for file in shelf.iterdir():
        file.chmod(0o444)
    before = {file.name: file.read_bytes() for file in shelf.iterdir()}
    shelf.chmod(0o555)
    assert look(path) == "0.5"
    assert {file.name: file.read_bytes() for file in shelf.iterdir()} == before


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def test_a_fault_inside_a_transaction_undoes_it_and_is_raised_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    database = connect(path, Schema(1, "CREATE TABLE t (x)"), durable=False)

    def failing() -> None:
        with transaction(database, path):
            database.execute("INSERT INTO t VALUES (1)")
            raise KeyError("x")

    with pytest.raises(KeyError):
        failing()
    with transaction(database, path):
        database.execute("INSERT INTO t VALUES (2)")
    assert database.execute("SELECT x FROM t").fetchall() == [(2,)]
    database.close()
