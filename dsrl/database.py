"""SQLite as dsrl uses it: WAL, one version number, faults told as sentences."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsrl.errors import StoreError

#: Seconds to wait for a lock.
PATIENCE = 30.0


def connect(path: Path, schema: str, version: int, durable: bool) -> sqlite3.Connection:
    """Open the database at ``path``, made with ``schema`` if it is not there.

    The connection may be used by any thread, one at a time.

    Args:
        durable: a transaction is on the disk when it ends and outlives a power cut. Otherwise it outlives the process
            only, which is enough for what can be made again without paying.

    Raises:
        StoreError: it cannot be opened, is damaged, or is of another version.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path, schema, version, durable)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: str, version: int, durable: bool) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    connection.execute("PRAGMA foreign_keys=ON")
    if _version(connection) == 0:
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version={version}; COMMIT;")
        except sqlite3.OperationalError:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if _version(connection) == 0:
                raise  # else another process made the tables while this one waited
    found = _version(connection)
    if found != version:
        newer, mend = (
            ("a newer", "update dsrl") if found > version else ("an older", "use that version, or move it away")
        )
        raise StoreError(f"{path} is from {newer} version of dsrl (format {found}, this one reads {version}); {mend}")
    if durable:
        # One that cannot be written is told now, not when there is something that must not be lost.
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(f"PRAGMA user_version={version}")  # BEGIN alone is content with a file that is read-only
        finally:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """All or nothing."""
    with told(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back itself where the disk is full; another ROLLBACK would hide why.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Tell a fault of the database or the disk as a :class:`StoreError`."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a fault of dsrl, not of the file
    except sqlite3.OperationalError as error:
        text = str(error)
        if "disk is full" in text or "disk I/O" in text:
            raise StoreError(f"{path}: no room on the disk; free some and give the same command again") from error
        if "locked" in text:
            raise StoreError(
                f"{path} is locked by {_holder(path)}; end it or wait for it, then give the same command again"
            ) from error
        if "readonly" in text or "unable to open" in text:
            raise StoreError(f"{path} cannot be written; check its permissions and its folder's") from error
        if "already exists" in text:
            raise StoreError(f"{path} is a database of something else ({text}); move it away") from error
        raise StoreError(f"{path}: {text}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is damaged or no database ({error}). `sqlite3 {path} .recover` may save what is in it; move it away, "
            "and the same command starts with an empty one"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def _holder(path: Path) -> str:
    """Name the process that holds the lock for writing, as far as the system says (Linux: ``/proc/locks``)."""
    try:
        files = {file.stat().st_ino for suffix in ("", "-wal", "-shm") if (file := Path(f"{path}{suffix}")).exists()}
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            *_, kind, pid, place, _, _ = line.split()
            if kind == "WRITE" and int(place.rpartition(":")[2]) in files and int(pid) not in (-1, os.getpid()):
                name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
                return f"process {pid} ({name})"
    except (OSError, ValueError):
        pass
    return "another process"


def storable(text: str) -> str:
    """Give text that SQLite and UTF-8 files take: lone surrogates, which a model's JSON may hold, become ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")
