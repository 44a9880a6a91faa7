"""Finds the texts of a set that another text copies, and the words that both share.

What many texts of the set share is their template, and does not count (:class:`dsrl.similarity.grams.Template`). What is
left of the two texts is compared by four rules, the clearest first:

* ``exact``: the whole texts are equal in normal form, or what is left of them is, if it has at least five words;
* ``13-gram``: they share 13 words in a row;
* ``contained``: all that is left of the text of the set, 8 to 12 words, stands in the other text;
* ``near``: the Jaccard similarity of their word 5-grams is at least 0.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from dsrl.similarity.grams import (
    LONG,
    SHORT,
    HashedText,
    contains,
    find_longest_run,
    find_template,
    hash_words,
    make_template,
)
from dsrl.similarity.near import NearIndex
from dsrl.similarity.words import join_words, split_words

if TYPE_CHECKING:
    from dsrl.similarity.grams import Hashes, Positions

K = TypeVar("K")
Rule = Literal["exact", "13-gram", "contained", "near"]
#: The clearest first.
RULES: tuple[Rule, ...] = ("exact", "13-gram", "contained", "near")
#: Fewer words that are left are not compared on their own: "5 apples" is the same answer to many questions.
LEAST_LEFT = 5
#: What is left of a text must have so many words to be looked for inside another one.
LEAST_CONTAINED = 8
#: An n-gram belongs to the template only if at least so many texts of the set have it.
_LEAST_SHARED = 2
_LONGEST_SPAN = 400
#: Characters that are compared at a time, so that the memory stays bounded, and how far two such pieces overlap.
BLOCK, _OVERLAP = 200_000, 4_000
#: Of a longer text, only the beginning and the end are compared, so that the time stays bounded.
MOST_CHARACTERS = 12_000_000


@dataclass(frozen=True, slots=True)
class Copy:
    """A text of the set that another text copies.

    Attributes:
        number: the number of the text in the set, from 0.
        rule: which rule found it.
        span: what both have in common, as it stands in the other text; a long one is cut in its middle.
        similarity: the Jaccard similarity for the rule ``near``; None for the others.
    """

    number: int
    rule: Rule
    span: str
    similarity: float | None = None


class CopyIndex:
    """Finds the texts of a set that a text copies.

    Args:
        texts: the set.
        known: texts that everybody has, like the instructions of the task; they belong to the template.
        examples: texts of the same form as those of the set; they help to find the template of a small set.
    """

    def __init__(self, texts: Sequence[str], known: Iterable[str] = (), examples: Iterable[str] = ()) -> None:
        self._texts = texts
        self._whole: dict[str, list[int]] = {}
        hashed: list[HashedText] = []
        distinct: list[HashedText] = []
        for number, text in enumerate(texts):
            words = split_words(text)
            hashed.append(hash_words(words))
            same = self._whole.setdefault(join_words(words), [])
            if not same:
                distinct.append(hashed[-1])
            same.append(number)
        for example in {join_words(words): words for words in map(split_words, examples)}.items():
            if example[0] not in self._whole:
                distinct.append(hash_words(example[1]))
        self._whole.pop("", None)
        instructions = make_template(hash_words(split_words(text)) for text in known)
        #: What the texts of the set share.
        self.template = find_template(distinct, _LEAST_SHARED, [instructions])
        rests = [text.select(self.template.find_rest(text)) for text in hashed]
        self._rest = _group((_digest(rest), number) for number, rest in enumerate(rests) if rest.length >= LEAST_LEFT)
        self._short = _group(
            ((len(rest.hashes), _digest(rest)), number)
            for number, rest in enumerate(rests)
            if LEAST_CONTAINED <= rest.length < LONG
        )
        self._grams, self._owners = _index_grams(rests)
        self._near = NearIndex()
        for number, rest in enumerate(rests):
            self._near.add(number, rest)

    def find(self, text: str) -> list[Copy]:
        """Return the texts of the set that a text copies, each once, those of the clearest rule first.

        A text that is longer than :data:`BLOCK` characters is compared in pieces.
        """
        copies: dict[int, Copy] = {}
        for block in _split_blocks(text):
            for copy in self._find_in_block(block):
                copies.setdefault(copy.number, copy)
        return list(copies.values())

    def _find_in_block(self, text: str) -> list[Copy]:
        words = split_words(text)
        if not words:
            return []
        whole = hash_words(words)
        positions = self.template.find_rest(whole)
        rest = whole.select(positions)
        exact = self._whole.get(join_words(words), [])
        copies = {number: Copy(number, "exact", cut_span(text)) for number in exact}
        if rest.length >= LEAST_LEFT:
            rules: list[tuple[Rule, list[tuple[int, float | None]]]] = [
                ("exact", [(number, None) for number in self._rest.get(_digest(rest), [])]),
                ("13-gram", [(number, None) for number in self._find_shared(rest)]),
                ("contained", [(number, None) for number in self._find_contained(rest)]),
                ("near", list(self._near.find(rest))),
            ]
            located = _LocatedText(text, words, positions, rest)
            for rule, numbers in rules:
                for number, similarity in numbers:
                    if number not in copies and (span := self._find_span(located, number, rule)) is not None:
                        copies[number] = Copy(number, rule, span, similarity)
        return list(copies.values())

    def _find_shared(self, rest: HashedText) -> list[int]:
        """Return the texts that share 13 words in a row, those that share more of them first."""
        import numpy as np

        grams = np.unique(rest.find_windows(LONG).hashes)
        grams = grams[contains(self._grams, grams)]
        if not len(grams):
            return []
        first = np.searchsorted(self._grams, grams, "left")
        last = np.searchsorted(self._grams, grams, "right")
        owners, counts = np.unique(
            np.concatenate([self._owners[a:b] for a, b in zip(first, last, strict=True)]), return_counts=True
        )
        return [int(owner) for owner in owners[np.argsort(-counts, kind="stable")]]

    def _find_contained(self, rest: HashedText) -> list[int]:
        numbers: dict[int, None] = {}
        for words in sorted({words for words, _ in self._short}):
            for window in dict.fromkeys(rest.find_windows_of(words).hashes.tolist()):
                numbers |= dict.fromkeys(self._short.get((words, window), ()))
        return list(numbers)

    def _find_span(self, located: _LocatedText, number: int, rule: Rule) -> str | None:
        """Return what a text and one of the set have in common; None if only their hashes are equal."""
        words = split_words(self._texts[number])
        hashed = hash_words(words)
        positions = self.template.find_rest(hashed)
        rest = hashed.select(positions)
        size = LONG if rule == "13-gram" else SHORT
        first, last = find_longest_run(located.rest, rest, size)
        shared = located.get_words(first, min(last, first + size))
        if not shared or f" {' '.join(shared)} " not in f" {' '.join(words[i] for i in positions)} ":
            return None
        return located.quote(first, last)


@dataclass(frozen=True, slots=True)
class _LocatedText:
    """A text whose words know where they stand.

    Attributes:
        text: the text.
        words: its words in normal form.
        positions: of each word that is left, its place among all words.
        rest: the words that are left.
    """

    text: str
    words: Sequence[str]
    positions: Positions
    rest: HashedText

    def get_words(self, first: int, last: int) -> list[str]:
        """Return some of the words that are left."""
        return [self.words[i] for i in self.positions[first:last]]

    def quote(self, first: int, last: int) -> str:
        """Return the piece of the text with these words that are left; it may hold words of the template, too."""
        start, end = int(self.positions[first]), int(self.positions[last - 1])
        pieces = self.text.split()
        at = 0
        quoted: list[str] = []
        for piece in pieces:
            if at > end:
                break
            at += len(split_words(piece))
            if at > start:
                quoted.append(piece)
        shown = " ".join(quoted)
        # A sign counts only beside its operands, so the words of the pieces may not be those of the text.
        same = join_words(self.words[start : end + 1]) in join_words(split_words(shown))
        return cut_span(shown if same else " ".join(self.words[start : end + 1]))


def _group(pairs: Iterable[tuple[K, int]]) -> dict[K, list[int]]:
    groups: dict[K, list[int]] = {}
    for key, number in pairs:
        groups.setdefault(key, []).append(number)
    return groups


def _digest(rest: HashedText) -> int:
    """Return one number for all words that are left."""
    return int(rest.find_windows_of(len(rest.hashes)).hashes[0])


def _index_grams(rests: Sequence[HashedText]) -> tuple[Hashes, Positions]:
    """Return the 13-grams of texts, sorted, and the number of the text that each is from."""
    import numpy as np

    sets = [np.unique(rest.find_windows(LONG).hashes) for rest in rests]
    grams = np.concatenate([np.zeros(0, np.uint64), *sets])
    owners = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    order = np.argsort(grams, kind="stable")
    return grams[order], owners[order]


def _split_blocks(text: str) -> Iterator[str]:
    """Yield a text in pieces that overlap; of a text that is too long, its beginning and its end."""
    if len(text) > MOST_CHARACTERS:
        half = MOST_CHARACTERS // 2
        text = f"{text[:half]} {text[-half:]}"
    yield text[:BLOCK]
    for start in range(BLOCK, len(text), BLOCK):
        yield text[start - _OVERLAP : start + BLOCK]


def cut_span(text: str) -> str:
    """Return a text in one line; a long one is cut in its middle."""
    if len(text) > 8 * _LONGEST_SPAN:
        text = f"{text[: 4 * _LONGEST_SPAN]} {text[-4 * _LONGEST_SPAN :]}"
    text = " ".join(text.split())
    half = _LONGEST_SPAN // 2
    return text if len(text) <= _LONGEST_SPAN else f"{text[:half]} … {text[-half:]}"
