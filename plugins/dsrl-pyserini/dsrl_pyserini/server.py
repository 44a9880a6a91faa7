"""The process in which Java runs. It answers one call after the other, until its channel ends."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

#: Most words of a query; Lucene's own limit is 1,024.
MAX_WORDS = 65_536
#: Fields of Anserini that hold the text of a document.
TEXT_FIELDS = ("raw", "contents")
#: Seconds to wait for an index that another process has opened for writing.
LOCK_SECONDS = 5.0


class Lucene:
    """Lucene through Anserini's classes.

    Every method raises ``jnius.JavaException`` for an error of Java.
    """

    def __init__(self, jar: str, memory_mb: int) -> None:
        import jnius_config

        jnius_config.add_classpath(jar)
        jnius_config.add_options(f"-Xmx{memory_mb}m", "-Dlog4j2.level=WARN", "-Xss4m")
        from jnius import autoclass

        self._class = autoclass
        self._jar = jar
        autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(MAX_WORDS)
        self._writer: Any = None
        self._arguments: list[str] = []
        self._folder = ""
        self._written = 0
        self._searcher: Any = None
        self._searched: tuple[Any, ...] = ()
        self._readable: dict[str, str] = {}

    def describe(self) -> dict[str, str]:
        """Return the versions of Lucene and of Anserini."""
        lucene = self._class("org.apache.lucene.util.Version").LATEST.toString()
        return {
            "lucene": str(lucene),
            "anserini": Path(self._jar).name.removeprefix("anserini-").removesuffix("-fatjar.jar"),
        }

    def open_writer(self, folder: str, existing: int, language: str, threads: int, buffer_mb: int) -> None:
        """Open an index for writing, and remove all passages but the first ``existing`` ones."""
        self._close_searcher()
        self._folder, self._written = folder, existing
        self._arguments = [
            "-input",
            "",
            "-collection",
            "JsonCollection",
            "-index",
            folder,
            "-storeRaw",
            "-language",
            language,
        ]
        self._arguments += ["-threads", str(threads), "-memoryBuffer", str(buffer_mb)]
        if existing:
            writer = self._open_lucene_writer(folder)
            range_query = self._class("org.apache.lucene.search.TermRangeQuery")
            writer.deleteDocuments(range_query.newStringRange("id", f"{existing:010d}", None, True, True))
            writer.commit()
            writer.close()
        self._open(is_new=not existing)

    def add(self, documents: list[str]) -> None:
        """Add documents of Anserini in JSON."""
        added = int(self._writer.addRawDocuments(documents))
        self._written += added
        if added != len(documents):
            raise RuntimeError(f"Lucene took {added} of {len(documents)} documents; its log says why")

    def commit(self) -> None:
        """Make permanent what was added."""
        self._close()
        self._open(is_new=False)

    def close_writer(self) -> int:
        """Make permanent what was added, end writing, and return the number of documents in the index."""
        self._close()
        return self._written

    def count(self, folder: str) -> int:
        """Return the number of documents that are permanently in an index; 0 if there is none."""
        if not any(name.startswith("segments_") for name in os.listdir(folder)):
            return 0
        directory = self._open_folder(folder)
        reader = self._class("org.apache.lucene.index.DirectoryReader").open(directory)
        number = int(reader.numDocs())
        reader.close()
        directory.close()
        return number

    def check_texts(self, folder: str) -> None:
        """Refuse an index that does not hold the texts of its documents."""
        searcher = self._class("io.anserini.search.SimpleSearcher")(folder)
        try:
            self._find_text_field(searcher)
        finally:
            searcher.close()

    def search(
        self, folder: str, query: str, k: int, k1: float, b: float, rm3: tuple[int, int, float] | None, language: str
    ) -> list[tuple[str, str]]:
        """Return id and raw document of the best documents."""
        wanted = (folder, k1, b, rm3, language)
        if self._searched != wanted:
            self._close_searcher()
            if not self.count(folder):
                return []
            searcher = self._class("io.anserini.search.SimpleSearcher")(folder)
            if language != "en":
                searcher.set_language(language)
            searcher.set_bm25(k1, b)
            if rm3:
                searcher.set_rm3("JsonCollection", *rm3)
            self._searcher, self._searched = searcher, wanted
            self._field = self._find_text_field(searcher)
        hits = self._searcher.search(query, min(k, int(self._searcher.get_total_num_docs())))
        return [(str(hit.docid), self._read_text(self._searcher, hit)) for hit in hits]

    def _read_text(self, searcher: Any, hit: Any) -> str:
        number = hit.lucene_docid
        return str((searcher.doc_raw(number) if self._field == "raw" else searcher.doc_contents(number)) or "")

    def _find_text_field(self, searcher: Any) -> str:
        document = searcher.doc(0)
        for field in TEXT_FIELDS:
            if document is not None and document.get(field):
                return field
        raise RuntimeError(
            "the index does not hold the texts of its documents; build it with -storeRaw or -storeContents, or take the "
            "variant of a prebuilt index that holds them"
        )

    def _open_lucene_writer(self, folder: str) -> Any:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            config = self._class("org.apache.lucene.index.IndexWriterConfig")()
            try:
                return self._class("org.apache.lucene.index.IndexWriter")(self._open_folder(folder), config)
            except Exception as error:
                # The Java of a command that was killed ends a moment after it.
                if "LockObtainFailed" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def _open(self, is_new: bool) -> None:
        arguments = self._arguments if is_new else [*self._arguments, "-append"]
        self._writer = self._class("io.anserini.index.SimpleIndexer")(arguments)

    def _close(self) -> None:
        self._writer.close()
        self._writer = None
        # Anserini writes the errors of its last commit to the log only.
        if (count := self.count(self._folder)) != self._written:
            raise RuntimeError(f"Lucene took {count} of {self._written} documents; its log says why")

    def _close_searcher(self) -> None:
        if self._searcher is not None:
            self._searcher.close()
        self._searcher, self._searched = None, ()

    def _open_folder(self, folder: str) -> Any:
        return self._class("org.apache.lucene.store.FSDirectory").open(self._class("java.nio.file.Paths").get(folder))


def serve(channel: int, jar: str, java_home: str, memory_mb: int) -> None:
    """Answer the calls that come through a file descriptor: name and arguments; back go fault or not, and the value."""
    connection = Connection(channel)
    os.environ["JAVA_HOME"] = java_home
    os.environ.pop("JVM_PATH", None)
    lucene: Any = None
    request: tuple[str, tuple[Any, ...]] | None = None
    while True:
        try:
            if request is None:
                lucene, value = Lucene(jar, memory_mb), None
            else:
                name, arguments = request
                value = getattr(lucene, name)(*arguments)
            answer = (False, value)
        except Exception as error:  # noqa: BLE001 - it is told to the other side
            answer = (True, f"{type(error).__name__}: {error}"[:4000])
        try:
            connection.send(answer)
            if request is None and answer[0]:
                break
            request = connection.recv()
        except (EOFError, OSError):
            break
    os._exit(0)  # without waiting for Java's threads: what is committed is on the disk
