"""The retriever ``bm25``: BM25 with tantivy, a search engine library that runs inside the process.

It searches the words of title and text, in lower case, without stop words, reduced to their stems. A word is a sequence of
letters and digits, so the search works poorly for languages that are written without spaces.

Passages with equal scores are sorted in the order of the library. Scores are equal if they differ by less than a
hundred-thousandth of the best score: with several indexing threads, the order of the passages differs in every index, so
sums of floating-point numbers can differ in their last digits.
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

#: Most characters of a word. Longer ones are addresses, sequences or encoded data, which would fill the dictionary.
MAX_WORD = 40
#: Most passages of equal score, beyond 2k, that are sorted in the order of the library; for more, the engine's order counts.
MAX_TIES = 100_000
#: File in which the retriever stores the language of an index.
LANGUAGE_FILE = "dsrl-bm25.json"


class BM25Retriever:
    """BM25 over tantivy (k1 = 1.2, b = 0.75).

    Args:
        language: language of the stemmer and the stop words, e.g. ``english``, ``german``; ``none`` uses neither.
        heap_mb: memory in MiB that indexing may use before it writes to the disk; at least 16 for each thread.
        threads: number of threads for indexing.

    Raises:
        SettingsError: an argument is not valid.
    """

    def __init__(self, language: str = "english", heap_mb: int | str = 256, threads: int | str = 2) -> None:
        self.language = str(language).strip().lower()
        self._analyser = _make_analyser(self.language)
        self.threads = _read_whole_number("threads", threads, least=1)
        self.heap_mb = _read_whole_number("heap_mb", heap_mb, least=16 * self.threads)
        self._lock = Lock()
        self._open_index: tuple[Path, tantivy.Index, tantivy.Searcher] | None = None

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path) -> int:
        """Write an index of ``passages`` to ``directory``. Memory does not grow with their number.

        Returns:
            The number of passages in the index.

        Raises:
            StoreError: the folder cannot be written.
        """
        with self._lock:
            self._open_index = None
        with _store_errors(directory):
            index = self._create(directory)
            writer = index.writer(self.heap_mb * 2**20, self.threads)
        try:
            for order, passage in enumerate(passages):
                document = tantivy.Document()
                document.add_text("body", passage.title)
                document.add_text("body", passage.text)
                document.add_bytes("id", passage.id.encode())
                document.add_unsigned("order", order)
                with _store_errors(directory):
                    writer.add_document(document)
            with _store_errors(directory):
                writer.commit()
        finally:
            # End the threads and release the engine's lock on the folder, also if the passages cannot be read.
            with _store_errors(directory):
                writer.wait_merging_threads()
        # Count in the folder, not in this object: a later process reads the folder.
        return tantivy.Index.open(str(directory)).searcher().num_docs

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Passage]:
        """Return the ``k`` best passages for the words of all keywords. A word that occurs twice counts twice.

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
            # More passages with the score of the k-th may follow after the limit. The order of the library decides
            # which of them are returned, so all of them are needed.
            if len(hits) < limit or limit == most or _round_score(hits[-1], hits) < _round_score(hits[k - 1], hits):
                break
            limit = min(4 * limit, most)
        orders = searcher.fast_field_values("order", [address for _, address in hits])
        ranked = sorted(zip(hits, orders, strict=True), key=lambda each: (-_round_score(each[0], hits), each[1]))
        return [_make_passage(searcher.doc(address)) for (_, address), _ in ranked[:k]]

    def _create(self, directory: Path) -> tantivy.Index:
        builder = tantivy.SchemaBuilder()
        # Title and text are two values of one field. Positions are needed for phrases only; without them an index
        # takes half the disk.
        builder.add_text_field("body", stored=True, tokenizer_name="dsrl", index_option="freq")
        builder.add_bytes_field("id", stored=True)
        builder.add_unsigned_field("order", fast=True)
        index = tantivy.Index(builder.build(), path=str(directory))
        index.register_tokenizer("dsrl", self._analyser)
        (directory / LANGUAGE_FILE).write_text(json.dumps({"language": self.language}), encoding="utf-8")
        return index

    def _open(self, directory: Path) -> tuple[tantivy.Index, tantivy.Searcher]:
        with self._lock:
            if self._open_index is None or self._open_index[0] != directory:
                try:
                    language = json.loads((directory / LANGUAGE_FILE).read_text(encoding="utf-8"))["language"]
                    index = tantivy.Index.open(str(directory))
                    searcher = index.searcher()
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise StoreError(
                        f"The index in {directory} cannot be opened ({error}). Remove the folder; the next run "
                        "makes the index again."
                    ) from error
                if language != self.language:
                    raise SettingsError(
                        f"The index in {directory} was made for the language {language}, not {self.language}. "
                        "Set the retriever's option `language` to the language of the index, or remove the folder."
                    )
                self._open_index = (directory, index, searcher)
            return self._open_index[1], self._open_index[2]

    def _query(self, schema: tantivy.Schema, keywords: Sequence[str]) -> tantivy.Query | None:
        words: Counter[str] = Counter()
        for keyword in keywords:
            # A model wrote the keywords. The engine refuses lone surrogates; they match nothing, so they are removed.
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


def _make_analyser(language: str) -> tantivy.TextAnalyzer:
    if language == "none":
        return _make_tokenizer()
    # A few languages have a stemmer but no stop words; BM25 gives little weight to frequent words anyway.
    stemmer, stop_words = tantivy.Filter.stemmer, tantivy.Filter.stopword
    for filters in ((stop_words, stemmer), (stemmer,)):
        with suppress(ValueError):
            return _make_tokenizer(*(make(language) for make in filters))
    raise SettingsError(
        f"The retriever bm25 has no stemmer for the language {language!r}. Set its option `language` to another one, "
        "such as english, french, german or spanish, or to none."
    )


def _make_tokenizer(*filters: tantivy.Filter) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for each in (tantivy.Filter.remove_long(MAX_WORD), tantivy.Filter.lowercase(), *filters):
        builder = builder.filter(each)
    return builder.build()


def _read_whole_number(name: str, value: int | str, least: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise SettingsError(
            f"The retriever bm25's option `{name}` must be a whole number of at least {least}, not {value!r}."
        )
    return number


@contextmanager
def _store_errors(directory: Path) -> Iterator[None]:
    """Raise the engine's errors as a StoreError. It reports a full disk or a missing permission as a ValueError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"The index cannot be written to {directory}: {error}. Free some room or correct the permissions."
        ) from error


def _round_score(hit: _Hit, hits: Sequence[_Hit]) -> float:
    # Relative to the best score: a word that occurs in every passage gives scores below one in ten thousand.
    return round(hit[0] / hits[0][0], 5)


def _make_passage(document: tantivy.Document) -> Passage:
    title, text = document.get_all("body")
    (encoded_id,) = document.get_all("id")
    return Passage(id=bytes(encoded_id).decode(), text=text, title=title)
