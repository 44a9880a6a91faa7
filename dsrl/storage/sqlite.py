"""SQLite as dsrl uses it: WAL, numbered formats with migrations, errors as sentences.

A new file is created under a temporary name and renamed when it has its tables. An empty file is therefore never one that
dsrl left behind; it is reported as damage. A file of an earlier format is migrated in one transaction when it is opened for
work. A connection that only reads writes nothing and leaves no file behind.
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
        version: number of the format; the file stores it.
        tables: SQL that creates the tables of a new file.
        migrations: number of an earlier format -> SQL that changes it into the next one. A format without an entry is
            refused.
    """

    version: int
    tables: str
    migrations: Mapping[int, str] = field(default_factory=dict)


class CannotWrite(StoreError):
    """A file cannot be written now, but perhaps later: the disk is full, or the file is locked or read-only.

    Attributes:
        cause: what is wrong, and where.
        remedy: what to do about it.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}; {remedy} and give the same command again")
        self.cause, self.remedy = cause, remedy


def connect(path: Path, schema: Schema, durable: bool) -> sqlite3.Connection:
    """Open the database at ``path`` for work. Create it if it is missing; migrate it if it has an earlier format.

    Any thread may use the connection, but only one at a time.

    Args:
        durable: each transaction is on the disk when it ends and survives a power cut. False: it survives the end of the
            process only, which is enough for data that can be made again without paying.

    Raises:
        StoreError: the file cannot be opened, is empty or damaged, or has a format that cannot be migrated.
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
    """Open the database at ``path`` to read it. A file of an earlier format is read as a migrated copy.

    Raises:
        StoreError: as :func:`connect`.
    """
    with store_errors(path, "read"):
        _refuse_empty(path)
        connection = _open_to_read(path)
        try:
            version = _get_version(connection)
            _refuse_format(path, schema, version)
            if version == schema.version:
                return connection
            copy = _copy_to_memory(connection)
        except BaseException:
            connection.close()
            raise
        connection.close()
        _migrate(copy, path, schema)
        return copy


def exists(path: Path) -> bool:
    """Return whether there is a file or folder at ``path``.

    Raises:
        StoreError: the file system does not say.
    """
    with store_errors(path, "read"):
        return path.exists()


def _open(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)


def _create(path: Path, schema: Schema) -> None:
    """Create a new file, whole or not at all. If several processes do so at once, the first one wins."""
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
    version = _get_version(connection)
    _refuse_format(path, schema, version)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    if version != schema.version:
        _migrate(connection, path, schema)
    connection.execute("PRAGMA foreign_keys=ON")
    if durable:
        # Report a file that cannot be written now, not later when there is something to lose.
        connection.execute("BEGIN IMMEDIATE")
        try:
            touch(connection)  # BEGIN alone succeeds on a file that is read-only
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def touch(connection: sqlite3.Connection) -> None:
    """Write to the file inside a transaction without changing its content, to find out whether it can be written."""
    connection.execute(f"PRAGMA user_version={_get_version(connection)}")


def _migrate(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Change a file of an earlier format into the present one, in one transaction."""
    connection.execute("PRAGMA foreign_keys=OFF")  # a migration may create a table again under its old name
    with transaction(connection, path):
        for version in range(_get_version(connection), schema.version):  # another process may have migrated it
            try:
                for statement in _statements(schema.migrations[version]):
                    connection.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                    raise
                raise StoreError(
                    f"{path} is marked as format {version} but does not have its tables ({error}); nothing was changed. "
                    "Put a copy of it back, or move it away"
                ) from error
        connection.execute(f"PRAGMA user_version={schema.version}")


def _statements(sql: str) -> Iterator[str]:
    """Split SQL into statements. ``executescript`` cannot be used: it would commit the open transaction."""
    statement = ""
    for part in sql.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _get_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _refuse_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        raise StoreError(f"{path} is empty, so its content is lost. Put a copy of it back, or move it away")


def _refuse_format(path: Path, schema: Schema, version: int) -> None:
    if version == 0:
        raise StoreError(
            f"{path} was not written by dsrl, or it is a copy without the file {path.name}-wal that belongs to it. Put the "
            "right file in its place, or move it away"
        )
    if version > schema.version:
        raise StoreError(
            f"{path} is from a newer version of dsrl (format {version}, this one reads {schema.version}); update dsrl"
        )
    if any(earlier not in schema.migrations for earlier in range(version, schema.version)):
        raise StoreError(
            f"{path} is from an older version of dsrl (format {version}, this one reads {schema.version}); use that "
            "version, or move the file away"
        )


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file for queries. Leave no new file beside it."""
    wal, shm = (Path(f"{path}{suffix}") for suffix in ("-wal", "-shm"))
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        # A read-only connection would leave its -wal and -shm files behind; this one removes them when it is closed.
        connection = _open(path, "mode=rw")
        connection.execute("PRAGMA query_only=ON")
        return connection
    if not wal.exists():
        return _open(path, "mode=ro&immutable=1")
    if shm.exists():
        connection = _open(path, "mode=ro")
        try:
            _get_version(connection)
            return connection
        except sqlite3.OperationalError:  # no process uses the -shm file, and this one may not write it
            connection.close()
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, wal):
            shutil.copy(file, folder)
        with closing(_open(Path(folder) / path.name, "mode=rw")) as connection:
            return _copy_to_memory(connection)


def _copy_to_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Copy a database into a temporary one that is gone when its connection is closed."""
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.backup(copy)
    return copy


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """Run the block in one transaction: commit at its end, roll back if it raises.

    Raises:
        StoreError: the database cannot be written, or it is damaged.
    """
    with store_errors(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # On a full disk SQLite rolls back by itself; a second ROLLBACK would hide the cause.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def store_errors(path: Path, purpose: Literal["written", "read"] = "written") -> Iterator[None]:
    """Raise errors of the database or the disk as a :class:`StoreError` that names ``path``.

    Args:
        path: the file or folder that the block works on.
        purpose: what the block does with it.

    Raises:
        CannotWrite: the disk is full, or the file is locked or read-only.
        StoreError: any other error of SQLite or the operating system.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a bug of dsrl, not a fault of the file
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
            f"{path} is damaged or no database ({error}). Put a copy of it back; `sqlite3 {path} .recover` may save its "
            "content; move it away to start without it"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be {purpose}: {error.strerror}") from error


def get_lock_holder(path: Path) -> str:
    """Return the process that has locked a database in words, e.g. ``process 4711 (python)``.

    Only Linux says which process it is (in ``/proc/locks``); elsewhere the result is ``another process``.
    """
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
