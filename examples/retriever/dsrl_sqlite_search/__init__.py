"""The retriever ``sqlite_search``: BM25 in the full-text index FTS5 of SQLite, which every Python brings along."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from dsrl import Passage, hookimpl

#: More words than this make a query slow and no better.
MOST_WORDS = 64


class SqliteSearchRetriever:
    """Finds passages by their words, without regard to case, accents and English endings."""

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path) -> int:
        with closing(sqlite3.connect(directory / "passages.db")) as database, database:
            database.execute(
                "CREATE VIRTUAL TABLE passages USING fts5(title, text, id UNINDEXED, tokenize = 'porter unicode61')"
            )
            rows = ((passage.title, passage.text, passage.id) for passage in passages)
            database.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)
            (count,) = database.execute("SELECT count(*) FROM passages").fetchone()
        return int(count)

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> list[Passage]:
        # A model wrote the keywords: only their letters and digits go into the query, each word as a quoted term.
        words = list(dict.fromkeys(re.findall(r"[^\W_]+", " ".join(keywords)[:10_000])))[:MOST_WORDS]
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in words)
        address = f"{(directory / 'passages.db').absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as database:
            rows = database.execute(
                "SELECT id, text, title FROM passages WHERE passages MATCH ? ORDER BY rank, rowid LIMIT ?", (query, k)
            )
            return [Passage(*row) for row in rows]
