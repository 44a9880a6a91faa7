"""The retriever ``bm25``: BM25 with tantivy, a search engine library that runs inside the process.

It searches the words of title and text, in lower case, without stop words, reduced to their stems. Words in other scripts
than the Latin one are found too, whatever the language is (:mod:`dsrl_bm25.words`).

Passages with equal scores are sorted in the order of the library. Scores are equal if they differ by less than a
hundred-thousandth of the best score: with several indexing threads, the order of the passages differs in every index, so
sums of floating-point numbers can differ in their last digits.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import tantivy

from dsrl.errors import SettingsError, StoreError
from dsrl.plugins.specs import hookimpl
from dsrl.types import Passage
from dsrl_bm25.words import WordReader, list_languages

__all__ = ["BM25Retriever"]

_Hit = tuple[float, tantivy.DocAddress]

#: Most bytes of a word. Longer ones are addresses, sequences or encoded data, which would fill the dictionary.
MAX_WORD = 80
#: Most characters of all keywords together, and most different words of them, that a search uses.
MAX_QUERY = 100_000
MAX_QUERY_WORDS = 1_024
#: Most passages of equal score, beyond 2k, that are sorted in the order of the library; for more, the engine's order counts.
MAX_TIES = 100_000
#: What was added is made permanent whenever the passages have so many characters. A killed build goes on from there.
COMMIT_EVERY = 256 * 2**20
#: File in which the retriever stores how an index was made, and the version of that.
INDEX_FILE = "dsrl-bm25.json"
FORMAT = 2
#: Languages that are written without a stemmer's help: their words are found by :mod:`dsrl_bm25.words`.
_UNSTEMMED = ("none", "chinese", "japanese", "korean", "thai", "lao", "khmer", "burmese", "hindi", "hebrew")


class BM25Retriever:
    """BM25 over tantivy (k1 = 1.2, b = 0.75).

    Args:
        language: language of the stemmer and the stop words, e.g. ``english``, ``german``, ``chinese``; ``none``: neither.
        heap_mb: memory in MiB that indexing may use before it writes to the disk; at least 16 for each thread.
        threads: number of threads for indexing.

    Raises:
        SettingsError: an argument is not valid.
    """

    def __init__(self, language: str = "english", heap_mb: int | str = 256, threads: int | str = 2) -> None:
        self.language = str(language).strip().lower()
        self._analyser = _make_analyser(self.language)
        self._others = WordReader(
            self._analyser.analyze, {language: _make_analyser(language).analyze for language in list_languages()}
        )
        self.threads = _read_whole_number("threads", threads, least=1)
        self.heap_mb = _read_whole_number("heap_mb", heap_mb, least=16 * self.threads)
        self._lock = Lock()
        self._open_index: tuple[Path, tantivy.Index, tantivy.Searcher] | None = None

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path, existing: int) -> int:
        """Add ``passages`` to the first ``existing`` ones of the index in ``directory``; if there are none, make it.

        Memory does not grow with the number of passages.

        Returns:
            The number of passages in the index.

        Raises:
            SettingsError: the index was made for another language.
            StoreError: the folder cannot be written.
        """
        with self._lock:
            self._open_index = None
        index = self._open_engine(directory) if existing else self._create(directory)
        with _store_errors(directory):
            index.register_tokenizer("dsrl", self._analyser)
            writer = index.writer(self.heap_mb * 2**20, self.threads)
        try:
            if existing:
                with _store_errors(directory):
                    rest = tantivy.Query.range_query(index.schema, "order", tantivy.FieldType.Unsigned, existing, None)
                    writer.delete_documents_by_query(rest)
                    writer.commit()
            size = 0
            for order, passage in enumerate(passages, existing):
                document = self._make_document(passage, order)
                with _store_errors(directory):
                    writer.add_document(document)
                size += len(passage.text)
                if size > COMMIT_EVERY:
                    size = 0
                    with _store_errors(directory):
                        writer.commit()
            with _store_errors(directory):
                writer.commit()
        finally:
            # End the threads and release the engine's lock on the folder, also if the passages cannot be read.
            with _store_errors(directory):
                writer.wait_merging_threads()
        # Count in the folder, not in this object: a later process reads the folder.
        return self.count(directory)

    @hookimpl
    def count(self, directory: Path) -> int:
        """Return the number of passages that are permanently in an index.

        Raises:
            SettingsError: the index was made for another language.
            StoreError: the index is damaged.
        """
        if not (directory / INDEX_FILE).exists():
            return 0  # killed before the index was made
        return int(self._open_engine(directory).searcher().num_docs)

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
        # The words of dsrl_bm25.words, separated by spaces.
        builder.add_text_field("others", tokenizer_name="whitespace", index_option="freq")
        builder.add_bytes_field("id", stored=True)
        builder.add_unsigned_field("order", indexed=True, fast=True)
        with _store_errors(directory):
            index = tantivy.Index(builder.build(), path=str(directory))
        made = {"format": FORMAT, "language": self.language, "tantivy": version("tantivy")}
        with _store_errors(directory):
            (directory / INDEX_FILE).write_text(json.dumps(made), encoding="utf-8")
        return index

    def _make_document(self, passage: Passage, order: int) -> tantivy.Document:
        document = tantivy.Document()
        document.add_text("body", passage.title)
        document.add_text("body", passage.text)
        others = [*self._others.read(passage.title), *self._others.read(passage.text)]
        if others:
            document.add_text("others", " ".join(others))
        document.add_bytes("id", passage.id.encode())
        document.add_unsigned("order", order)
        return document

    def _open(self, directory: Path) -> tuple[tantivy.Index, tantivy.Searcher]:
        with self._lock:
            if self._open_index is None or self._open_index[0] != directory:
                index = self._open_engine(directory)
                self._open_index = (directory, index, index.searcher())
            return self._open_index[1], self._open_index[2]

    def _open_engine(self, directory: Path) -> tantivy.Index:
        made: dict[str, Any] = {}
        try:
            made = json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))
            language, made_format = str(made["language"]), int(made.get("format", 1))
            index = tantivy.Index.open(str(directory)) if made_format <= FORMAT else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"The index in {directory} cannot be opened ({error}). {_describe_engine(made)}Remove the folder; the next "
                "run makes the index again."
            ) from error
        if index is None or made_format != FORMAT:
            age = "a newer" if made_format > FORMAT else "an older"
            raise StoreError(
                f"The index in {directory} was made by {age} version of dsrl-bm25. Use that version, or remove the folder "
                "and make the index again."
            )
        if language != self.language:
            raise SettingsError(
                f"The index in {directory} was made for the language {language}, not {self.language}. "
                "Set the retriever's option `language` to the language of the index, or remove the folder."
            )
        return index

    def _query(self, schema: tantivy.Schema, keywords: Sequence[str]) -> tantivy.Query | None:
        words: Counter[tuple[str, str]] = Counter()
        size = 0
        for keyword in keywords:
            # A model wrote the keywords. The engine refuses lone surrogates; they match nothing, so they are removed.
            text = keyword[: MAX_QUERY - size].encode("utf-8", "ignore").decode("utf-8")
            text = unicodedata.normalize("NFKC", text)[:MAX_QUERY]
            size += len(text)
            words.update((field, word) for word in self._analyser.analyze(text) for field in ("body", "others"))
            words.update(("others", word) for word in self._others.read(text, is_query=True))
        if not words:
            return None
        queries = []
        for (field, word), count in words.most_common(MAX_QUERY_WORDS):
            query = tantivy.Query.term_query(schema, field, word, index_option="freq")
            queries.append(
                (tantivy.Occur.Should, tantivy.Query.boost_query(query, float(count)) if count > 1 else query)
            )
        return tantivy.Query.boolean_query(queries)


def _make_analyser(language: str) -> tantivy.TextAnalyzer:
    if language in _UNSTEMMED:
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


def _describe_engine(made: Any) -> str:
    engine = made.get("tantivy") if isinstance(made, dict) else None
    if engine in (None, version("tantivy")):
        return ""
    return f"It was made with tantivy {engine}, and {version('tantivy')} is installed. "


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
