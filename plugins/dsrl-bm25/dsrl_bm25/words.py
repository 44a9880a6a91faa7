"""The words of a text in any script.

tantivy cuts a text at everything that is neither a letter nor a digit, and knows the endings of one language. That is right
for the language of a library, and finds little in others: Chinese has no spaces, Arabic joins articles and prepositions to
the word, and Hindi writes vowels as marks. Such words are therefore indexed a second time, in another field, in a form
that is made here:

* scripts without spaces between words, and Korean: single characters and pairs of neighbours;
* Arabic, Russian, Greek, Tamil: reduced to stems, Arabic without the marks of vowels, Greek without accents;
* other scripts of India: whole words with their marks;
* words of any script that Unicode writes in several ways (full-width letters, separate accents): their usual way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise

#: Returns the words of a text as tantivy analyses them.
Analyse = Callable[[str], list[str]]

#: Most characters of a word.
MAX_LENGTH = 60
# Lao, Thai, Burmese, Khmer, Kana, Han, Hangul, half-width Kana.
_UNSPACED = (
    "\u0e01-\u0edf\u1000-\u109f\u1780-\u17d3\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
#: Language -> the characters of its script.
_STEMMED = {
    "arabic": "\u0620-\u065f\u066e-\u06d3\u06d5-\u06ff\u0750-\u077f",
    "russian": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "tamil": "\u0b80-\u0bff",
}
_MARKED = "\u0900-\u0963\u0966-\u0b7f\u0c00-\u0dff"
_RUNS = re.compile(
    f"(?P<unspaced>[{_UNSPACED}]+)|"
    + "".join(f"(?P<{language}>[{script}]+)|" for language, script in _STEMMED.items())
    + f"(?P<marked>[{_MARKED}]+)"
)
_SCRIPTS = re.compile(f"[{_UNSPACED}{''.join(_STEMMED.values())}{_MARKED}]")
# The vowels of Arabic, and the line that only stretches a word.
_ARABIC_MARKS = re.compile("[\u064b-\u065f\u0670\u0640]")
#: Letters of Persian keyboards that stand in Arabic texts; the stemmer knows the other spellings.
_ARABIC_LETTERS = str.maketrans("\u06cc\u06a9", "\u064a\u0643")


class WordReader:
    """Makes the words of the second field.

    Args:
        analyse: the analyser of the first field.
        stem: language -> its analyser, for the languages that have a script of their own.
    """

    def __init__(self, analyse: Analyse, stem: dict[str, Analyse]) -> None:
        self._analyse = analyse
        self._stem = stem

    def read(self, text: str, is_query: bool = False) -> list[str]:
        """Return the words of a text that the first field does not find, or finds badly.

        Args:
            text: any text.
            is_query: leave out single characters where there are pairs, which are more exact.
        """
        if text.isascii():
            return []
        usual = unicodedata.normalize("NFKC", text)
        words: list[str] = []
        if _SCRIPTS.search(usual):  # most texts hold none of them, and this is faster than to look for each
            words += [word for run in _RUNS.finditer(usual) for word in self._read_run(run, is_query)]
        if usual != text:
            for word in text.split():
                if not word.isascii() and (same := unicodedata.normalize("NFKC", word)) != word:
                    words += self._analyse(same)
        return [word[:MAX_LENGTH] for word in words]

    def _read_run(self, run: re.Match[str], is_query: bool) -> Iterator[str]:
        word = run.group()
        if run.lastgroup == "unspaced":
            if len(word) == 1 or not is_query:
                yield from word
            yield from map("".join, pairwise(word))
        elif run.lastgroup == "marked":
            yield word
        else:
            language = str(run.lastgroup)
            if language == "arabic":
                word = _ARABIC_MARKS.sub("", word).translate(_ARABIC_LETTERS)
            elif language == "greek":
                word = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
            yield from self._stem[language](word)


def list_languages() -> tuple[str, ...]:
    """Return the languages that have a script of their own and a stemmer."""
    return tuple(_STEMMED)
