"""The retriever ``pyserini``: Lucene's BM25, reached through the classes of Anserini, the Java library of pyserini.

Lucene needs a Java virtual machine, which cannot be started twice, cannot change its options, and takes the process with it
when it ends. It therefore runs in a process of its own (:mod:`dsrl_pyserini.server`), and this module talks to it
(:mod:`dsrl_pyserini.client`). The Python modules of pyserini are never imported; only its jar file is used.

A passage is a document of Anserini: ``id`` is its number in the library, with leading zeros, so that passages of equal score
keep the order of the library; ``contents`` is title and text; the passage itself is in the raw document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from dsrl.errors import SettingsError, StoreError
from dsrl.plugins.specs import hookimpl
from dsrl.types import Passage
from dsrl_pyserini.client import LuceneProcess
from dsrl_pyserini.java import find_jar, find_java

__all__ = ["PyseriniRetriever"]

#: Passages that are sent to the Java process at once.
BATCH = 1_000
#: What was added is made permanent whenever the passages have so many characters. A killed build goes on from there.
COMMIT_EVERY = 256 * 2**20
#: Most characters of all keywords together that a search uses.
MAX_QUERY = 100_000
#: File in which the retriever stores how an index was made, and the version of that.
INDEX_FILE = "dsrl-pyserini.json"
FORMAT = 1
#: The Java processes by their memory: all retrievers share one, because it takes seconds to start. One call at a time.
_PROCESSES: dict[int, LuceneProcess] = {}
_LOCK = Lock()


class PyseriniRetriever:
    """BM25 by Lucene, with Anserini's analysers.

    Args:
        k1, b: the parameters of BM25; the defaults are those of Anserini.
        rm3: ``off``; ``on``: a query is widened by words of the best passages it finds (RM3: 10 words of 10 passages, half
            the weight); or ``WORDS,PASSAGES,WEIGHT``, where WEIGHT is that of the query as it was.
        language: two letters; the analyser of Anserini for this language.
        memory_mb: memory of the Java process in MiB.
        threads: number of threads for indexing.

    Raises:
        SettingsError: an argument is not valid.
    """

    def __init__(
        self,
        k1: float | str = 0.9,
        b: float | str = 0.4,
        rm3: str = "off",
        language: str = "en",
        memory_mb: int | str = 1024,
        threads: int | str = 2,
    ) -> None:
        self.k1, self.b = _read_number("k1", k1, 0, 1000), _read_number("b", b, 0, 1)
        self.rm3 = _read_rm3(rm3)
        self.language = str(language).strip().lower()
        if len(self.language) != 2 or not self.language.isalpha() or not self.language.isascii():
            raise SettingsError(f"The retriever pyserini's option `language` must be two letters, not {language!r}.")
        self.memory_mb = int(_read_number("memory_mb", memory_mb, 128, 2**20))
        self.threads = int(_read_number("threads", threads, 1, 1024))

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path, existing: int) -> int:
        """Add ``passages`` to the first ``existing`` ones of the index in ``directory``; if there are none, make it.

        Returns:
            The number of passages in the index.

        Raises:
            SettingsError: the index was made for another language, or it is linked.
            StoreError: the folder cannot be written.
        """
        with _LOCK:
            lucene = self._start()
            if existing:
                if self._read(directory, lucene).get("link"):
                    raise SettingsError(
                        f"The index in {directory} is a link to one that dsrl did not make: nothing is added."
                    )
            else:
                self._write(directory, {"language": self.language}, lucene)
            folder = str(directory / "lucene")
            lucene.call("open_writer", folder, existing, self.language, self.threads, self.memory_mb // 4)
            try:
                self._add(lucene, passages, existing)
            except BaseException:
                try:
                    lucene.call("close_writer")  # what was added stays, and the same build goes on from there
                except StoreError:
                    lucene.close()
                raise
            return int(lucene.call("close_writer"))

    @hookimpl
    def count(self, directory: Path) -> int:
        """Return the number of passages that are permanently in an index.

        Raises:
            StoreError: the index is damaged, or a newer Lucene made it.
        """
        if not (directory / INDEX_FILE).exists():
            return 0  # killed before the index was made
        with _LOCK:
            lucene = self._start()
            return int(lucene.call("count", self._find_folder(directory, lucene)))

    @hookimpl
    def link(self, source: Path, directory: Path) -> int:
        """Use an index that Anserini or pyserini has made, such as a prebuilt one. It stays where it is.

        Returns:
            The number of passages in it.

        Raises:
            StoreError: it is no such index, it does not hold the texts of its documents, or a newer Lucene made it.
        """
        with _LOCK:
            lucene = self._start()
            count = int(lucene.call("count", str(source)))
            if not count:
                raise StoreError(
                    f"There is no Lucene index with documents in {source}. Give the folder with the file segments_*."
                )
            lucene.call("check_texts", str(source))
            self._write(directory, {"link": str(source.resolve()), "language": self.language}, lucene)
            return count

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Passage]:
        """Return the ``k`` best passages for the words of all keywords.

        Raises:
            StoreError: the index is damaged, or a newer Lucene made it.
        """
        # A model wrote the keywords. Java has no lone surrogates; they match nothing, so they are removed.
        query = " ".join(keywords)[:MAX_QUERY].encode("utf-8", "ignore").decode("utf-8").strip()
        if k < 1 or not query:
            return []
        with _LOCK:
            lucene = self._start()
            folder = self._find_folder(directory, lucene)
            documents = lucene.call("search", folder, query, k, self.k1, self.b, self.rm3, self.language)
        return [_read_document(*document) for document in documents]

    def _start(self) -> LuceneProcess:
        process = _PROCESSES.get(self.memory_mb)
        if process is None or not process.is_alive():
            process = _PROCESSES[self.memory_mb] = LuceneProcess(find_jar(), find_java(), self.memory_mb)
        return process

    def _add(self, lucene: LuceneProcess, passages: Iterable[Passage], existing: int) -> None:
        size, numbered = 0, enumerate(passages, existing)
        while batch := list(islice(numbered, BATCH)):
            # The next batch is read while Lucene works on this one.
            lucene.send("add", [_make_document(passage, number) for number, passage in batch])
            size += sum(len(passage.text) for _, passage in batch)
            if size > COMMIT_EVERY:
                size = 0
                lucene.send("commit")

    def _write(self, directory: Path, made: dict[str, Any], lucene: LuceneProcess) -> None:
        content = {"format": FORMAT, **lucene.call("describe"), **made}
        try:
            (directory / INDEX_FILE).write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"The index cannot be written to {directory}: {error.strerror}. Correct the permissions."
            ) from error

    def _read(self, directory: Path, lucene: LuceneProcess) -> dict[str, Any]:
        try:
            made = json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))
            made_format, made_by, language = int(made["format"]), str(made["lucene"]), str(made["language"])
            version = _read_version(made_by)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"The index in {directory} cannot be opened ({error}). Remove the folder, and make the index again."
            ) from error
        if made_format > FORMAT:
            raise StoreError(
                f"The index in {directory} was made by a newer version of dsrl-pyserini. Update it, or make the index again."
            )
        installed = lucene.call("describe")["lucene"]
        if version[0] > _read_version(installed)[0]:
            raise StoreError(
                f"The index in {directory} was made with Lucene {made_by}, and Lucene {installed} is installed, which "
                "cannot read it. Install a newer pyserini (2.4 needs Python 3.12), or make the index again."
            )
        if language != self.language and not made.get("link"):
            raise SettingsError(
                f"The index in {directory} was made for the language {language}, not {self.language}. Set the retriever's "
                "option `language` to the language of the index, or make the index again."
            )
        return dict(made)

    def _find_folder(self, directory: Path, lucene: LuceneProcess) -> str:
        made = self._read(directory, lucene)
        return str(made.get("link") or directory / "lucene")


def _make_document(passage: Passage, number: int) -> str:
    # In ASCII, so that every text passes the border to Java unchanged. Lucene leaves a document without contents out.
    contents = f"{passage.title}\n{passage.text}".strip() or "-"
    passage_of = [passage.id, passage.text, passage.title]
    return json.dumps({"id": f"{number:010d}", "contents": contents, "dsrl": passage_of})


def _read_document(docid: str, raw: str) -> Passage:
    """Make a passage of a document: one of this module's, or one of an index that was linked."""
    document: Any = None
    with suppress(ValueError):
        document = json.loads(raw)
    if not isinstance(document, dict):
        return Passage(docid, raw)
    if "dsrl" in document:
        passage_id, text, title = map(str, document["dsrl"])
        return Passage(passage_id, text, title)
    values = [document.get(field) for field in ("contents", "text", "segment", "body")]
    text = next((value for value in values if isinstance(value, str) and value.strip()), raw)
    heading = document.get("title")
    return Passage(docid, text.strip(), heading if isinstance(heading, str) else "")


def _read_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _read_number(name: str, value: float | str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise SettingsError(
            f"The retriever pyserini's option `{name}` must be from {low:g} to {high:g}, not {value!r}."
        )
    return number


def _read_rm3(value: str) -> tuple[int, int, float] | None:
    text = str(value).strip().lower()
    if text in ("off", "false", "no"):
        return None
    words, passages, weight = (
        "10,10,0.5".split(",") if text in ("on", "true", "yes") else [*text.split(","), "", "", ""][:3]
    )
    try:
        rm3 = (int(words), int(passages), float(weight))
        if min(rm3[:2]) >= 1 and max(rm3[:2]) <= 1000 and 0 <= rm3[2] <= 1 and text.count(",") in (0, 2):
            return rm3
    except ValueError:
        pass
    raise SettingsError(
        f"The retriever pyserini's option `rm3` must be off, on, or WORDS,PASSAGES,WEIGHT such as 10,10,0.5, not {value!r}."
    )
