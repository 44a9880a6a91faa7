"""SQLite as dsrl uses it: WAL, numbered formats with migrations, faults told as sentences.

A file is made under another name and gets its own when its tables are in it, so an empty file is never one that dsrl has
left behind: it is damage, and is told. A file of an earlier format is migrated in one transaction when it is opened for
work. Who only looks writes nothing, and leaves nothing beside the file.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dsrl.errors import StoreError

#: Seconds to wait for a lock.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Schema:
    """The format of a database.

    Attributes:
        version: number of the format; the file keeps it.
        tables: SQL that makes the tables of a new file.
        migrations: number of an earlier format -> SQL that makes the next one out of it. A format without is refused.
    """

    version: int
    tables: str
    migrations: Mapping[int, str] = field(default_factory=dict)


class CannotWrite(StoreError):
    """A file cannot be written now, and perhaps can be later: the disk is full, the file is locked or read-only.

    Attributes:
        cause: what is wrong, and where.
        remedy: what to do about it.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}; {remedy} and give the same command again")
        self.cause, self.remedy = cause, remedy


def connect(path: Path, schema: Schema, durable: bool) -> sqlite3.Connection:
    """Open the database at ``path`` for work: made if it is not there, migrated if it is of an earlier format.

    The connection may be used by any thread, one at a time.

    Args:
        durable: a transaction is on the disk when it ends and outlives a power cut. Otherwise it outlives the process
            only, which is enough for what can be made again without paying.

    Raises:
        StoreError: it cannot be opened, is empty or damaged, or of a format that cannot be migrated.
    """
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path, schema)
        _refuse_empty(path)
        connection = _open(path, "mode=rw")
        try:
            _prepare(connection, path, schema, durable)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_to_read(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open the database at ``path`` to look at it. A file of an earlier format is read as a migrated copy.

    Raises:
        StoreError: as :func:`connect`.
    """
    with store_errors(path, "read"):
        _refuse_empty(path)
        connection = _open_to_read(path)
        try:
            found = _version(connection)
            _refuse_format(connection, path, schema, found)
            if found == schema.version:
                return connection
            copy = _copied(connection)
        except BaseException:
            connection.close()
            raise
        connection.close()
        _migrate(copy, path, schema)
        return copy


def exists(path: Path) -> bool:
    """Say whether there is something at ``path``.

    Raises:
        StoreError: it cannot be known.
    """
    with store_errors(path, "read"):
        return path.exists()


def _open(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)


def _create(path: Path, schema: Schema) -> None:
    """Make a new file, whole or not at all; of several processes that do so at once, the first one counts."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.new")
    try:
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(f"BEGIN; {schema.tables}; PRAGMA user_version={schema.version}; COMMIT;")
        finally:
            connection.close()
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # not every system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _prepare(connection: sqlite3.Connection, path: Path, schema: Schema, durable: bool) -> None:
    found = _version(connection)
    _refuse_format(connection, path, schema, found)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    if found != schema.version:
        _migrate(connection, path, schema)
    connection.execute("PRAGMA foreign_keys=ON")
    if durable:
        # One that cannot be written is told now, not when there is something that must not be lost.
        connection.execute("BEGIN IMMEDIATE")
        try:
            touch(connection)  # BEGIN alone is content with a file that is read-only
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def touch(connection: sqlite3.Connection) -> None:
    """Write to the file without changing what it holds, in a transaction, to see whether that is possible."""
    connection.execute(f"PRAGMA user_version={_version(connection)}")


def _migrate(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Make a file of an earlier format one of this; all or nothing."""
    connection.execute("PRAGMA foreign_keys=OFF")  # tables are made anew under their names
    with transaction(connection, path):
        for version in range(_version(connection), schema.version):  # another process may have done it
            try:
                for statement in _statements(schema.migrations[version]):
                    connection.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                    raise
                raise StoreError(
                    f"{path} says that it is of format {version}, and is not ({error}); nothing was changed. Put a copy of "
                    "it back, or move it away"
                ) from error
        connection.execute(f"PRAGMA user_version={schema.version}")


def _statements(sql: str) -> Iterator[str]:
    """Cut SQL into statements; ``executescript`` would commit the transaction that they belong to."""
    statement = ""
    for part in sql.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _version(connection: sqlite3.Connection) -> int:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def _refuse_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        raise StoreError(f"{path} is empty, so what it held is lost. Put a copy of it back, or move it away")


def _refuse_format(connection: sqlite3.Connection, path: Path, schema: Schema, found: int) -> None:
    if found == 0:
        raise StoreError(
            f"{path} is a database of something else, or a copy without the {path.name}-wal that was beside it. Put the "
            "right one in its place, or move it away"
        )
    if found > schema.version:
        raise StoreError(
            f"{path} is from a newer version of dsrl (format {found}, this one reads {schema.version}); update dsrl"
        )
    if any(version not in schema.migrations for version in range(found, schema.version)):
        raise StoreError(
            f"{path} is from an older version of dsrl (format {found}, this one reads {schema.version}); use that version, "
            "or move it away"
        )


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file for queries, and leave nothing beside it that was not there."""
    wal, shm = (Path(f"{path}{suffix}") for suffix in ("-wal", "-shm"))
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        # A connection that is read-only would leave its -wal and -shm behind; this one takes them away again.
        connection = _open(path, "mode=rw")
        connection.execute("PRAGMA query_only=ON")
        return connection
    if not wal.exists():
        return _open(path, "mode=ro&immutable=1")
    if shm.exists():
        connection = _open(path, "mode=ro")
        try:
            _version(connection)
            return connection
        except sqlite3.OperationalError:  # nobody keeps the -shm, and this process may not
            connection.close()
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, wal):
            shutil.copy(file, folder)
        with closing(_open(Path(folder) / path.name, "mode=rw")) as connection:
            return _copied(connection)


def _copied(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Copy a database into one that goes with its connection."""
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.backup(copy)
    return copy


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """All or nothing."""
    with store_errors(path):
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
def store_errors(path: Path, purpose: Literal["written", "read"] = "written") -> Iterator[None]:
    """Tell a fault of the database or the disk as a :class:`StoreError`."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a fault of dsrl, not of the file
    except sqlite3.OperationalError as error:
        text = str(error)
        if "disk is full" in text or "disk I/O" in text:
            raise CannotWrite(f"{path}: no room on the disk", "free some") from error
        if "locked" in text:
            raise CannotWrite(f"{path} is locked by {get_lock_holder(path)}", "end it or wait for it,") from error
        if "readonly" in text or "unable to open" in text:
            cause, remedy = f"{path} cannot be {purpose}", "check its permissions and its folder's"
            raise (StoreError(f"{cause}; {remedy}") if purpose == "read" else CannotWrite(cause, remedy)) from error
        raise StoreError(f"{path}: {text}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is damaged or no database ({error}). Put a copy of it back; `sqlite3 {path} .recover` may save what is "
            "in it; move it away to begin without it"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be {purpose}: {error.strerror}") from error


def get_lock_holder(path: Path) -> str:
    """Name the process that has locked a file, as far as the system says (Linux: ``/proc/locks``)."""
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
