"""The retriever ``bm25``: BM25 on tantivy, a search engine library that runs inside the process.

A passage is found by the words of its title and text, lowercased, without stop words, reduced to their stems. Words are
runs of letters and digits, so languages that write without spaces are served poorly.

Equal scores are broken by the order of the library. Scores are equal when they differ by less than a hundred-thousandth of
the best: with several indexing threads the passages lie differently in every build of an index, so that sums of
floating-point numbers can differ in their last digits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

import tantivy

from dsrl.errors import SettingsError, StoreError
from dsrl.plugins.specs import hookimpl
from dsrl.types import Passage

__all__ = ["BM25Retriever"]

_Hit = tuple[float, tantivy.DocAddress]

#: Longer words are no words but addresses, sequences, encoded data: they would fill the dictionary.
MAX_WORD = 40
#: Passages of equal score that are put in order at most, beyond 2k; past this the engine's own order decides.
MAX_TIES = 100_000
#: What the retriever itself must know about an index.
NOTE = "dsrl-bm25.json"


class BM25Retriever:
    """BM25 over tantivy (k1 = 1.2, b = 0.75).

    Args:
        language: of the stemmer and the stop words, e.g. ``english``, ``german``; ``none`` keeps words as they are.
        heap_mb: memory that indexing may fill before it writes to disk, in MiB, at least 16 a thread.
        threads: that index.

    Raises:
        SettingsError: one of these is not usable.
    """

    def __init__(self, language: str = "english", heap_mb: int | str = 256, threads: int | str = 2) -> None:
        self.language = str(language).strip().lower()
        self._analyser = _analyser(self.language)
        self.threads = _whole("threads", threads, least=1)
        self.heap_mb = _whole("heap_mb", heap_mb, least=16 * self.threads)
        self._lock = Lock()
        self._opened: tuple[Path, tantivy.Index, tantivy.Searcher] | None = None

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path) -> int:
        """Index ``passages`` in ``directory``; memory stays flat. Gives the number of committed passages.

        Raises:
            StoreError: the folder cannot be written.
        """
        with self._lock:
            self._opened = None
        with _writes(directory):
            index = self._create(directory)
            writer = index.writer(self.heap_mb * 2**20, self.threads)
        try:
            for order, passage in enumerate(passages):
                document = tantivy.Document()
                document.add_text("body", passage.title)
                document.add_text("body", passage.text)
                document.add_bytes("id", passage.id.encode())
                document.add_unsigned("order", order)
                with _writes(directory):
                    writer.add_document(document)
            with _writes(directory):
                writer.commit()
        finally:
            # Ends the threads and frees the engine's lock on the folder, also when reading the passages failed.
            with _writes(directory):
                writer.wait_merging_threads()
        # Counted in the folder, not in this object: what a later process will find.
        return tantivy.Index.open(str(directory)).searcher().num_docs

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Passage]:
        """Find the ``k`` best passages for the words of all keywords; a word that is given twice counts twice.

        Raises:
            SettingsError: the index was made for another language.
            StoreError: the index is damaged.
        """
        if k < 1:
            return []
        index, searcher = self._open(directory)
        query = self._query(index.schema, keywords)
        if query is None or not searcher.num_docs:
            return []
        most = min(2 * k + MAX_TIES, searcher.num_docs)
        limit = min(k + 1, most)
        while True:
            hits = searcher.search(query, limit=limit, count=False).hits
            # Passages as good as the last one wanted may lie beyond the limit: which of them are in is for us to say.
            if len(hits) < limit or limit == most or _level(hits[-1], hits) < _level(hits[k - 1], hits):
                break
            limit = min(4 * limit, most)
        orders = searcher.fast_field_values("order", [address for _, address in hits])
        ranked = sorted(zip(hits, orders, strict=True), key=lambda each: (-_level(each[0], hits), each[1]))
        return [_passage(searcher.doc(address)) for (_, address), _ in ranked[:k]]

    def _create(self, directory: Path) -> tantivy.Index:
        builder = tantivy.SchemaBuilder()
        # Two values, title and text, in one field. Without positions, which only phrases need: half the disk.
        builder.add_text_field("body", stored=True, tokenizer_name="dsrl", index_option="freq")
        builder.add_bytes_field("id", stored=True)
        builder.add_unsigned_field("order", fast=True)
        index = tantivy.Index(builder.build(), path=str(directory))
        index.register_tokenizer("dsrl", self._analyser)
        (directory / NOTE).write_text(json.dumps({"language": self.language}), encoding="utf-8")
        return index

    def _open(self, directory: Path) -> tuple[tantivy.Index, tantivy.Searcher]:
        with self._lock:
            if self._opened is None or self._opened[0] != directory:
                try:
                    language = json.loads((directory / NOTE).read_text(encoding="utf-8"))["language"]
                    index = tantivy.Index.open(str(directory))
                    searcher = index.searcher()
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise StoreError(
                        f"The index in {directory} cannot be opened ({error}). Remove the folder; it will be made again."
                    ) from error
                if language != self.language:
                    raise SettingsError(
                        f"The index in {directory} was made for the language {language}, not {self.language}. "
                        "Set the retriever's option `language` to that, or remove the folder."
                    )
                self._opened = (directory, index, searcher)
            return self._opened[1], self._opened[2]

    def _query(self, schema: tantivy.Schema, keywords: Sequence[str]) -> tantivy.Query | None:
        words: Counter[str] = Counter()
        for keyword in keywords:
            # A model wrote them: half surrogate pairs cannot go to the engine, and match nothing anyway.
            words.update(self._analyser.analyze(keyword.encode("utf-8", "ignore").decode("utf-8")))
        if not words:
            return None
        queries = []
        for word, count in words.items():
            query = tantivy.Query.term_query(schema, "body", word, index_option="freq")
            queries.append(
                (tantivy.Occur.Should, tantivy.Query.boost_query(query, float(count)) if count > 1 else query)
            )
        return tantivy.Query.boolean_query(queries)


def _analyser(language: str) -> tantivy.TextAnalyzer:
    if language == "none":
        return _with()
    # A few languages have a stemmer and no list of stop words; BM25 gives frequent words little weight anyway.
    stemmer, stop_words = tantivy.Filter.stemmer, tantivy.Filter.stopword
    for filters in ((stop_words, stemmer), (stemmer,)):
        with suppress(ValueError):
            return _with(*(make(language) for make in filters))
    raise SettingsError(
        f"The retriever bm25 has no stemmer for the language {language!r}. Set its option `language` to one that has one, "
        "such as english, french, german or spanish, or to none."
    )


def _with(*filters: tantivy.Filter) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for each in (tantivy.Filter.remove_long(MAX_WORD), tantivy.Filter.lowercase(), *filters):
        builder = builder.filter(each)
    return builder.build()


def _whole(name: str, value: int | str, least: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise SettingsError(
            f"The retriever bm25's option `{name}` must be a whole number from {least} on, not {value!r}."
        )
    return number


@contextmanager
def _writes(directory: Path) -> Iterator[None]:
    # The engine tells of a full disk or a missing permission by ValueError, with the system's words in it.
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"The index cannot be written to {directory}: {error}. Free some room or mend the permissions."
        ) from error


def _level(hit: _Hit, hits: Sequence[_Hit]) -> float:
    # Relative to the best: a word that every passage has gives scores below one in ten thousand.
    return round(hit[0] / hits[0][0], 5)


def _passage(document: tantivy.Document) -> Passage:
    title, text = document.get_all("body")
    (id,) = document.get_all("id")
    return Passage(id=bytes(id).decode(), text=text, title=title)
