from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dsrl.errors import StoreError
from dsrl.storage.attempts import Attempt
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.run_store import RunStore
from dsrl.types import UNREADABLE, Passage, Sample

INITIAL = Sample("1-00000", 1, 0, "initial", "1 + 1?", "2", passage="p1")
DROPPED = Sample("1-00001", 1, 1, "initial", "", "", dropped="not_json", passage="p2")
HARDER = Sample("1-00000h", 1, 0, "harder", "1 + 1 + 1?", "3", parent="1-00000", passage="p1")


def again(store: RunStore) -> RunStore:
    """Close a store and open its run again."""
    store.close()
    return RunStore(store.folder)


# --- round trips -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_after_reopening(store: RunStore) -> None:
    keywords = {"": {"medicine": ["medicine", "Ärzte"], "b": ["b"]}}
    store.add_keywords(1, keywords)
    passages = {"medicine": [Passage("p2", "text", "title"), Passage("p1", "other")], "b": []}
    store.add_passages(1, {"": passages})
    store.add_patterns(1, {("", ""): ""})
    store.add_samples([INITIAL, DROPPED])
    store.add_samples([HARDER])
    store.add_greedy_attempts([Attempt("1-00000", "out", "2", True)])
    store.replace_items([EvalItem("q", "a"), EvalItem("r", "b")])
    store.add_evaluations([Evaluation("base", 0, "out", UNREADABLE, False), Evaluation("base", 1, "b", "b", True)])
    store.add_selected(1, ["1-00000h", "1-00000"])
    store = again(store)
    assert store.keywords(1) == keywords
    assert store.passages(1) == {"": {"medicine": passages["medicine"]}}
    assert store.pattern(1) == ""
    assert store.samples(1) == [INITIAL, HARDER, DROPPED]
    assert store.greedy_attempts(1) == {"1-00000": True}
    assert store.items() == [EvalItem("q", "a"), EvalItem("r", "b")]
    assert store.evaluations("base") == {0: False, 1: True}
    assert store.evaluations("trained") == {}
    assert store.selected(1) == ["1-00000h", "1-00000"]
    store.close()


def test_an_empty_run_holds_nothing(store: RunStore) -> None:
    assert store.keywords(1) == {}
    assert store.passages(1) == {}
    assert store.pattern(1) is None
    assert store.samples(1) == []
    assert store.scores(1) == {}
    assert store.selected(1) == []
    assert store.items() == []
    assert store.events() == []


# --- files of the run ------------------------------------------------------------------------------------------------


def test_settings_are_kept_whole_or_not_at_all(store: RunStore) -> None:
    with pytest.raises(StoreError, match="holds no settings"):
        _ = store.settings_text
    store.keep_settings({"task": {"name": "mednli"}, "versions": {"dsrl": "0.1"}})
    assert store.settings_file.read_text() == store.settings_text
    assert store.read_table("versions") == {"dsrl": "0.1"}
    with pytest.raises(TypeError):
        store.keep_settings({"task": {"name": object()}})
    assert store.read_table("versions") == {"dsrl": "0.1"}
    assert not list(store.folder.glob("*.part"))


def test_the_file_of_the_settings_is_a_copy(store: RunStore) -> None:
    settings = {"task": {"name": "mednli"}}
    assert store.keep_settings(settings) is None
    text = store.settings_text
    for harm in (b"[task]\nname = 'gsm8k'\n", b"[task", b"\xff"):
        store.settings_file.write_bytes(harm)
        assert store.settings_text == text
        edited = store.keep_settings(settings)
        assert edited is not None
        assert edited.read_bytes() == harm
        assert store.settings_file.read_text() == text
    store.settings_file.unlink()
    assert store.keep_settings(settings) is None
    assert store.settings_file.read_text() == text
    # dsrl's own change of a setting is no edit.
    assert store.keep_settings({"task": {"name": "mednli", "test_size": 5}}) is None


def test_settings_of_an_earlier_version_are_in_the_file_only(store: RunStore) -> None:
    store.settings_file.write_text('[task]\nname = "mednli"\n\n[versions]\ndsrl = "0.0.1"\n')
    assert "mednli" in store.settings_text
    assert store.read_table("versions") == {"dsrl": "0.0.1"}


# --- one process at a time -------------------------------------------------------------------------------------------

OPEN = """import sys
from pathlib import Path
from dsrl.storage.run_store import RunStore
store = RunStore(Path(sys.argv[1]))"""


def test_a_second_process_is_refused_with_the_first_ones_id(store: RunStore) -> None:
    command = [sys.executable, "-c", OPEN, str(store.folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert (
        f"run 'trial' is being worked on by process {os.getpid()}; wait for it, or give another --name" in result.stderr
    )


def test_the_lock_goes_with_the_process(store: RunStore) -> None:
    store.close()
    code = f"{OPEN}\nprint('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=f"worked on by process {process.pid};"):
            RunStore(store.folder)
        process.kill()
        process.wait()
    again(store).close()


def test_looking_takes_no_lock_and_makes_nothing(store: RunStore) -> None:
    store.add_samples([INITIAL])
    looking = RunStore(store.folder, work=False)
    assert looking.samples(1) == [INITIAL]
    assert looking.id == store.id
    looking.close()
    with pytest.raises(StoreError, match=r"there is no run 'gone' in .*; `dsrl runs` lists"):
        RunStore(store.folder.with_name("gone"), work=False)
    assert not store.folder.with_name("gone").exists()


@pytest.mark.parametrize("work", [True, False])
def test_an_empty_database_is_damage_and_is_reported(tmp_path: Path, work: bool) -> None:
    """A file of 0 bytes is never ours: a new one gets its name when it is whole."""
    folder = tmp_path / "begun"
    folder.mkdir()
    (folder / "run.db").touch()
    with pytest.raises(StoreError, match=r"begun/run\.db is empty, so its content is lost\. Put a copy of it back, or"):
        RunStore(folder, work)
    assert (folder / "run.db").stat().st_size == 0


@pytest.mark.parametrize("work", [True, False])
def test_a_database_that_is_missing_beside_its_settings_is_reported(store: RunStore, work: bool) -> None:
    store.keep_settings({"task": {"name": "mednli"}})
    store.close()
    (store.folder / "run.db").unlink()
    with pytest.raises(StoreError, match=r"trial/run\.db is missing, .* Put a copy of it back, or .* another --name"):
        RunStore(store.folder, work)
    assert not (store.folder / "run.db").exists()


def test_a_run_that_is_killed_while_its_database_is_made_starts_again(tmp_path: Path) -> None:
    """Killed at each file operation of the making, one after the other: the same command always goes on."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom dsrl.storage.run_store import RunStore\n"
        "import filelock, uuid  # imports open files too\n"
        "left = [int(sys.argv[2])]\n"
        "def count(event, args):\n"
        "    if event in ('sqlite3.connect', 'open', 'os.link', 'os.remove', 'sqlite3.connect/handle'):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(count)\n"
        "RunStore(Path(sys.argv[1]))\n"
    )
    for step in range(20):
        folder = tmp_path / f"trial{step}"
        result = subprocess.run([sys.executable, "-c", code, str(folder), str(step)], capture_output=True, check=False)
        store = RunStore(folder)
        assert store.id
        store.close()
        if not result.returncode:
            break
    assert 3 <= step < 19, "all moments were met"


# --- what the disk does ----------------------------------------------------------------------------------------------


def test_a_damaged_database_is_reported_and_the_lock_is_released(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "run.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError, match=r"run\.db is damaged or no database") as caught:
        RunStore(folder)
    (folder / "run.db").unlink()
    RunStore(folder).close()
    assert "move it away" in str(caught.value)


def test_a_database_that_is_damaged_in_the_middle_is_reported(store: RunStore) -> None:
    store.add_samples([Sample(f"1-{slot:05d}", 1, slot, "initial", "q" * 500, "o") for slot in range(100)])
    store.close()
    path = store.folder / "run.db"
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"run\.db"):
        RunStore(store.folder).samples(1)


def test_a_place_that_cannot_hold_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "trial"):
        with pytest.raises(StoreError, match="cannot be written"):
            RunStore(folder)


def test_a_database_of_another_version_is_reported(store: RunStore) -> None:
    store.close()
    for version, words in ((99, "a newer version"), (-1, "an older version")):
        database = sqlite3.connect(store.folder / "run.db")
        database.execute(f"PRAGMA user_version={version}")
        database.close()
        with pytest.raises(StoreError, match=words):
            RunStore(store.folder)


def test_a_full_disk_is_reported_and_what_was_written_stays(store: RunStore) -> None:
    """SQLite says the same for a database that may not grow as for a full disk."""
    store.add_samples([INITIAL])
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count={pages + 1}")
    many = [Sample(f"1-{slot:05d}", 1, slot, "initial", "q" * 2000, "o") for slot in range(1, 50)]
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"run\.db: no room on the disk; free some and give the same command again"
        ):
            store.add_samples(many)
    assert store.samples(1) == [INITIAL]
    store._database.execute("PRAGMA max_page_count=100000")
    store.add_samples(many)
    assert len(store.samples(1)) == 50


def test_a_disk_that_takes_no_more_bytes_is_reported(tmp_path: Path) -> None:
    """A real limit of the operating system on what the process may write."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom dsrl.errors import StoreError\n"
        "from dsrl.types import Sample\nfrom dsrl.storage.run_store import RunStore\n"
        "store = RunStore(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    for slot in range(1000):\n"
        "        store.add_samples([Sample(str(slot), 1, slot, 'initial', 'q' * 3000, 'o')])\n"
        "except StoreError as error:\n"
        "    print(slot, error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "trial")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    written, _, message = result.stdout.partition(" ")
    assert "run.db: no room on the disk" in message
    store = RunStore(tmp_path / "trial")
    assert len(store.samples(1)) == int(written)
    store.close()
