"""The retriever ``postgresql``: passages in a table of a PostgreSQL server, found by its full-text search.

The folder of an index holds one small file, which names the table. Several machines can search one table: each has a copy of
this file (``dsrl index link``).

The ranking is ``ts_rank`` of PostgreSQL, which does not know how rare a word is: it is not BM25. If the server has the
extension pgvector and a model is given, passages are also found by meaning, and both rankings are fused.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from dsrl.corpus.ranking import fuse_ranks, load_encoder
from dsrl.errors import SettingsError, StoreError
from dsrl.plugins.specs import hookimpl
from dsrl.types import Passage

__all__ = ["PostgreSQLRetriever"]

#: Rows that are sent and committed at once. The server is never more than one such batch behind, and a killed build goes on
#: after the last one.
BATCH = 2_000
#: Most characters of a text that are searched; a ``tsvector`` has at most 1 MiB.
MAX_TEXT = 200_000
#: Most characters of all keywords together that a search uses.
MAX_QUERY = 100_000
#: Passages that are compared by meaning in one search.
NEAREST = 200
#: File in which the retriever stores where an index is, and the version of that.
INDEX_FILE = "dsrl-postgresql.json"
FORMAT = 1

R = TypeVar("R")
#: The words of a text, joined by "or". They are quoted, so that nothing in them is an operator.
_QUERY = r"""(select string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery
    from (select lexeme from unnest(to_tsvector({language}::regconfig, %(text)s)) limit 1024) as words)"""


class PostgreSQLRetriever:
    """PostgreSQL's full-text search.

    Args:
        dsn: where the server is, e.g. ``host=db.example dbname=passages``; what it leaves out is taken from ``PGHOST``,
            ``PGUSER`` and so on. A password does not belong here, but in ``PGPASSWORD`` or ``~/.pgpass``.
        schema: the schema of the tables; it is made if it is missing.
        language: a text search configuration of the server, e.g. ``english``, ``german``, ``simple``.
        model: a model of sentence-transformers, to find passages by their meaning too; needs pgvector on the server.
        timeout: seconds until a search is given up.

    Raises:
        SettingsError: an argument is not valid.
    """

    def __init__(
        self,
        dsn: str = "",
        schema: str = "dsrl",
        language: str = "english",
        model: str = "",
        timeout: int | str = 600,
    ) -> None:
        try:
            has_password = "password" in conninfo_to_dict(dsn)
        except psycopg.Error as error:
            raise SettingsError(f"The retriever postgresql's option `dsn` cannot be read: {_describe(error)}") from None
        if has_password:
            raise SettingsError(
                "The retriever postgresql's option `dsn` holds a password, which would be stored with the run. Leave it "
                "out, and set PGPASSWORD or write it to ~/.pgpass."
            )
        if not str(timeout).isascii() or not str(timeout).isdigit() or not 1 <= int(timeout) <= 10**6:
            raise SettingsError(
                f"The retriever postgresql's option `timeout` must be a number of seconds, not {timeout!r}."
            )
        self.dsn, self.schema, self.language, self.model = str(dsn), str(schema), str(language), str(model)
        self.timeout = int(timeout)
        self._encode: Callable[[Sequence[str]], Any] | None = None
        self._lock = Lock()
        self._connection: psycopg.Connection[Any] | None = None

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path, existing: int) -> int:
        """Add ``passages`` to the first ``existing`` ones of the table; if there are none, make it.

        Returns:
            The number of passages in the table.

        Raises:
            SettingsError: the index was made with other options, or it is linked.
            StoreError: the server cannot be reached, or its disk is full.
        """
        with self._lock, self._translate():
            if existing and self._read(directory).get("link"):
                raise SettingsError(
                    f"The index in {directory} is a link to one that was made elsewhere: nothing is added."
                )
            table = self._find_table(directory) if existing else self._create(directory)
            connection = self._connect()
            connection.execute("set statement_timeout = 0")
            connection.execute(sql.SQL("delete from {} where number >= %s").format(table), [existing])
            numbered = enumerate(passages, existing)
            while batch := list(islice(numbered, BATCH)):
                self._copy(connection, table, batch)
            self._make_search_index(connection, table)
        return self.count(directory)

    @hookimpl
    def count(self, directory: Path) -> int:
        """Return the number of passages that are permanently in the table.

        Raises:
            StoreError: the server cannot be reached, or the table is not there.
        """
        if not (directory / INDEX_FILE).exists():
            return 0  # killed before the table was made
        with self._lock, self._translate():
            query = sql.SQL("select count(*) from {}").format(self._find_table(directory))
            return int(self._ask(lambda connection: connection.execute(query).fetchall())[0][0])

    @hookimpl
    def link(self, source: Path, directory: Path) -> int:
        """Search a table that was made from another folder, perhaps on another machine.

        Args:
            source: the folder ``index`` of that index, or the file in it.
            directory: the folder of the new index.

        Raises:
            StoreError: it is no such index, or its table is not on this server.
        """
        path = source / INDEX_FILE if source.is_dir() else source
        made = self._read(path.parent, path.name)
        _write(directory, {**made, "link": True})
        return self.count(directory)

    @hookimpl
    def drop(self, directory: Path) -> None:
        """Remove the table, unless it belongs to another folder.

        Raises:
            StoreError: the server cannot be reached.
        """
        if not (directory / INDEX_FILE).exists() or self._read(directory).get("link"):
            return
        with self._lock, self._translate():
            query = sql.SQL("drop table if exists {}").format(self._find_table(directory))
            self._ask(lambda connection: connection.execute(query))

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Passage]:
        """Return the ``k`` best passages for the words of all keywords.

        Raises:
            StoreError: the server cannot be reached, or the table is not there.
        """
        text = _clean(" ".join(keywords)[:MAX_QUERY])
        if k < 1 or not text.strip():
            return []
        with self._lock, self._translate():
            table = self._find_table(directory)
            query = sql.SQL(
                "select number, id, body, title from {table}, (select " + _QUERY + " as query) as q "
                "where words @@ query order by ts_rank(words, query, 1) desc, number limit %(k)s"
            ).format(table=table, language=sql.Literal(self.language))
            values: dict[str, Any] = {"text": text, "k": max(k, NEAREST) if self.model else k}
            rows = self._ask(lambda connection: connection.execute(query, values).fetchall())
            if self.model:
                nearest = sql.SQL(
                    "select number, id, body, title from {table} "
                    "order by embedding <=> %(vector)s::vector, number limit %(k)s"
                ).format(table=table)
                vector = {"vector": self._make_vectors([text])[0], "k": NEAREST}
                others = self._ask(lambda connection: connection.execute(nearest, vector).fetchall())
                rows = fuse_ranks([rows, others], key=lambda row: row[0])
        return [Passage(passage_id, body, title) for _, passage_id, body, title in rows[:k]]

    def _create(self, directory: Path) -> sql.Identifier:
        """Make an empty table, and the file that names it."""
        made = {
            "table": f"passages_{uuid.uuid4().hex}",
            "schema": self.schema,
            "language": self.language,
            "model": self.model,
        }
        table = sql.Identifier(self.schema, str(made["table"]))
        connection = self._connect()
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(self.schema)))
        columns = sql.SQL(
            "number bigint primary key, id text not null, title text not null, body text not null, words tsvector generated "
            "always as (setweight(to_tsvector({0}::regconfig, left(title, {1})), 'A') || "
            "to_tsvector({0}::regconfig, left(body, {1}))) stored"
        ).format(sql.Literal(self.language), sql.Literal(MAX_TEXT))
        if self.model:
            size = self._make_vectors(["size"])[0].count(",") + 1
            connection.execute("create extension if not exists vector")
            if not connection.execute("select 1 from pg_am where amname = 'hnsw'").fetchone():
                raise SettingsError("The option `model` needs pgvector 0.5 or later; the server has an older one.")
            columns += sql.SQL(", embedding vector({}) not null").format(sql.Literal(size))
        # The file first: a table that no file names could not be removed.
        _write(directory, made)
        connection.execute(sql.SQL("create table {} ({})").format(table, columns))
        comment = sql.SQL("comment on table {} is {}").format(table, sql.Literal(f"dsrl: {directory}"))
        connection.execute(comment)
        return table

    def _copy(
        self, connection: psycopg.Connection[Any], table: sql.Identifier, batch: Sequence[tuple[int, Passage]]
    ) -> None:
        rows: list[list[Any]] = [
            [number, _clean(passage.id), _clean(passage.title), _clean(passage.text)] for number, passage in batch
        ]
        columns = "number, id, title, body"
        if self.model:
            columns += ", embedding"
            for row, vector in zip(rows, self._make_vectors([f"{row[2]} {row[3]}" for row in rows]), strict=True):
                row.append(vector)
        query = sql.SQL("copy {} ({}) from stdin").format(table, sql.SQL(columns))
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(query) as copy:
            for row in rows:
                copy.write_row(row)

    def _make_search_index(self, connection: psycopg.Connection[Any], table: sql.Identifier) -> None:
        # After the bulk of the rows: the index is then made in one pass. Later additions go into it.
        name = table.as_string(connection).rpartition(".")[2].strip('"')
        words = sql.SQL("create index if not exists {} on {} using gin (words)")
        connection.execute(words.format(sql.Identifier(f"{name}_words"), table))
        if self.model:
            vectors = sql.SQL("create index if not exists {} on {} using hnsw (embedding vector_cosine_ops)")
            connection.execute(vectors.format(sql.Identifier(f"{name}_vectors"), table))
        connection.execute(sql.SQL("analyze {}").format(table))

    def _make_vectors(self, texts: Sequence[str]) -> list[str]:
        """Return a vector for each text, as pgvector reads it."""
        self._encode = self._encode or load_encoder(self.model)
        return [f"[{','.join(f'{value:.6g}' for value in vector)}]" for vector in self._encode(texts)]

    def _find_table(self, directory: Path) -> sql.Identifier:
        made = self._read(directory)
        for option in ("language", "model"):
            if made[option] != getattr(self, option):
                raise SettingsError(
                    f"The index in {directory} was made with {option}={made[option]}, not {getattr(self, option)}. Set the "
                    f"retriever's option `{option}` to that, or make the index again."
                )
        return sql.Identifier(made["schema"], made["table"])

    def _read(self, directory: Path, name: str = INDEX_FILE) -> dict[str, Any]:
        try:
            made = json.loads((directory / name).read_text(encoding="utf-8"))
            texts = {key: str(made[key]) for key in ("table", "schema", "language", "model")}
            made_format = int(made["format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"The index in {directory} cannot be opened ({error!r}). Remove the folder, and make the index again."
            ) from error
        if made_format > FORMAT:
            raise StoreError(
                f"The index in {directory} was made by a newer version of dsrl-postgresql. Update it, or make it again."
            )
        return {**texts, "link": bool(made.get("link"))}

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            # Each statement is permanent at once, except in a transaction.
            self._connection = psycopg.connect(
                self.dsn, autocommit=True, connect_timeout=10, application_name="dsrl", client_encoding="utf8"
            )
            self._connection.execute(f"set hnsw.ef_search = {NEAREST}")  # without pgvector it has no effect
        return self._connection

    def _ask(self, query: Callable[[psycopg.Connection[Any]], R]) -> R:
        """Call a function that only reads with the connection; once more if the server was restarted meanwhile."""
        connection = self._connect()
        try:
            connection.execute(f"set statement_timeout = {self.timeout * 1000}")
            return query(connection)
        except psycopg.OperationalError:
            if not connection.closed:
                raise
        return query(self._connect())

    @contextmanager
    def _translate(self) -> Iterator[None]:
        """Raise the errors of the server as errors of dsrl, and close a connection that is in an unknown state."""
        try:
            yield
        except errors.DiskFull as error:
            raise self._fail(error, "Its disk is full. Free some room, and give the same command again.") from error
        except errors.InsufficientPrivilege as error:
            raise self._fail(error, "Give the user the right, or choose another `schema`.") from error
        except errors.UndefinedTable as error:
            raise self._fail(
                error, "The table was removed, or it is on another server. Make the index again."
            ) from error
        except errors.QueryCanceled as error:
            raise self._fail(error, "Raise the retriever's option `timeout`, or ask for fewer passages.") from error
        except errors.UndefinedObject as error:
            raise SettingsError(
                f"The server has no such text search configuration or type: {_describe(error)}. Set the retriever's option "
                "`language` to another one (psql: \\dF); `model` needs pgvector."
            ) from error
        except errors.FeatureNotSupported as error:
            raise self._fail(error, "The option `model` needs the extension pgvector on the server.") from error
        except psycopg.OperationalError as error:
            raise self._fail(error, "Check `dsn`, PGHOST and the server, and give the same command again.") from error
        except psycopg.Error as error:
            raise self._fail(error, "Give the same command again.") from error

    def _fail(self, error: psycopg.Error, advice: str) -> StoreError:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
        return StoreError(f"The PostgreSQL server says: {_describe(error)}. {advice}")


def _write(directory: Path, made: dict[str, Any]) -> None:
    try:
        (directory / INDEX_FILE).write_text(json.dumps({"format": FORMAT, **made}), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"The index cannot be written to {directory}: {error.strerror}. Correct the permissions."
        ) from error


def _clean(text: str) -> str:
    """Return a text that PostgreSQL can store: without NUL and lone surrogates."""
    return text.replace("\0", " ").encode("utf-8", "ignore").decode("utf-8")


def _describe(error: psycopg.Error) -> str:
    return " ".join(str(error).split())[:500].rstrip(".")
