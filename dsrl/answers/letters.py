"""Read the letter of an option: ``B``, ``(B)``, ``B: text of the option``, "the answer is B", or the option's text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dsrl.answers.options import make_comparable
from dsrl.answers.wording import CORRECTION, DENIALS, MARKS, REASON, find_words
from dsrl.types import UNREADABLE, Answer

_LETTER = re.compile(r"([^\W_])(?![\w'])")
_SEPARATOR = re.compile(r"\s*(?:[)\].:,;]+|-+(?=\s)|\n)[)\]\s.:,;-]*")
_VERB = re.compile(
    r"\s*(?:'s|is|was|seems|looks|would|must|should|fits|matches|best|isn't|wasn't|can't|cannot)\b", re.IGNORECASE
)
_CONTRAST = re.compile(
    r"[\s,;]*(?:and |but )?(?:not|rather than|instead of)(?: option| choice)?"
    r"(?:[\s,]*(?:or |and |nor )?\(?[^\W\d_]\)?(?![\w']))+[\s.!]*",
    re.IGNORECASE,
)
_DENIAL_ONLY = re.compile(
    r"(?:is |that is )?(?:wrong|incorrect|false|no|not|not (?:correct|right|true)|excluded|out)\b\W*", re.IGNORECASE
)
_TEXT_AND_LETTER = re.compile(r"(.*\S)\s*[(\[]([^\W_])[)\]][\s.]*\Z", re.DOTALL)
_NAMED = re.compile(r"(?:\b(?:option|choice|answer|letter)(?:\s+is)?\s*:?\s*\(?|\()([^\W\d_])(?![\w'])", re.IGNORECASE)
_ARTICLE = re.compile(r"\s+(?!(?:is|was|and|or|seems|would)\b)[a-z]")
_ALONE = re.compile(r"(?<![\w'])([A-Z0-9])(?![\w'])")
_JOINING_WORDS = {"and", "or", "option", "both"}
# Where a letter is an answer and no part of a name such as "vitamin C".
_ANSWER_PLACE = re.compile(
    r"(?:\A|[.,;:!?/&+|(\[\n-]\s*|\b(?:and|or|but|though|although|maybe|perhaps|possibly"
    r"|also|plus|option|choice|answer|is|be|not|than|vs|versus|to)\s+)\(?\Z",
    re.I,
)


def read_letter(text: str, letters: tuple[str, ...], options: Mapping[str, str], lead: re.Pattern[str]) -> Answer:
    """Return the letter that the text gives; ``UNREADABLE`` if it gives none or more than one.

    Args:
        text: the answer of a model, without Markdown.
        letters: the letters in canonical spelling.
        options: letter -> comparable text of its option; empty if they are not known.
        lead: the words that may stand before an answer.
    """
    by_text = {option: None if list(options.values()).count(option) > 1 else name for name, option in options.items()}
    led = lead.match(text)
    rest = text[led.end() :] if led else text
    for whole in (text, rest):
        if make_comparable(whole) in by_text:
            return by_text[make_comparable(whole)] or UNREADABLE
    match = _LETTER.match(rest)
    letter = _find_letter(match[1], letters) if match else None
    if match and letter is not None:
        tail = rest[match.end() :]
        if match[1] == letter or not tail.strip(MARKS) or tail[0] in ").:]":
            return letter if _allows(letter, tail, letters, options) else UNREADABLE
    return _read_sentence(text, rest, letters, options)


def _find_letter(text: str, letters: tuple[str, ...]) -> str | None:
    if text in letters:
        return text
    return next((letter for letter in letters if letter.casefold() == text.casefold()), None)


def _allows(letter: str, tail: str, letters: tuple[str, ...], options: Mapping[str, str]) -> bool:
    """Return whether the text after the letter leaves it the only answer."""
    if not tail.strip(MARKS):
        return True
    comparable = make_comparable(tail.lstrip(MARKS))
    own = options.get(letter)
    if own is not None and own in (comparable, make_comparable(tail.strip().strip("()[]"))):
        return True
    separator = _SEPARATOR.match(tail)
    content = tail[separator.end() :] if separator else tail
    if REASON.match(content.lstrip()) or _CONTRAST.fullmatch(tail) or _CONTRAST.fullmatch(content):
        return True
    if _VERB.match(content):
        return _is_confirmed(content, letters)
    if not separator or _DENIAL_ONLY.fullmatch(content) or CORRECTION.search(content):
        return False
    others = {name: option for name, option in options.items() if name != letter}
    if own is not None and _begins_with(comparable, own):
        # The list of options copied back begins like an answer.
        content = comparable[len(own) :]
        if any(option in content or f" {name.casefold()}:" in content for name, option in others.items()):
            return False
    else:
        is_of_another = any(_begins_with(comparable, option) for option in others.values())
        words = set(find_words(content))
        if words == {letter.casefold()}:
            return True
        if is_of_another or words <= {name.casefold() for name in letters} | _JOINING_WORDS:
            return False
    reason = REASON.search(content)
    return not _names_another(letter, content[: reason.start()] if reason else content, letters)


def _is_confirmed(text: str, letters: tuple[str, ...]) -> bool:
    """Return whether a text such as "is the right answer" confirms the letter before it."""
    reason = REASON.search(text)
    head = text[: reason.start()] if reason else text
    others = any(match[1] in letters and not _is_article(match, head) for match in _ALONE.finditer(head))
    return DENIALS.isdisjoint(find_words(head)) and not others and not CORRECTION.search(text)


def _begins_with(text: str, option: str) -> bool:
    return text.startswith(option) and not text[len(option) : len(option) + 1].isalnum()


def _names_another(letter: str, text: str, letters: tuple[str, ...]) -> bool:
    for match in _ALONE.finditer(text):
        if match[1] in letters and match[1] != letter and not _is_article(match, text):
            # A few characters before it decide; a search over the whole text before each letter would be quadratic.
            start = max(0, match.start() - 12)
            if _ANSWER_PLACE.search(text, start, match.start()) or start == match.start():
                return True
    return False


def _is_article(match: re.Match[str], text: str) -> bool:
    return match[1] in "AI" and _ARTICLE.match(text, match.end()) is not None


def _read_sentence(text: str, rest: str, letters: tuple[str, ...], options: Mapping[str, str]) -> Answer:
    """Read a sentence that names one option ("I would say that option B fits"), or an option's text with its letter."""
    match = _TEXT_AND_LETTER.match(rest)
    if match:
        letter, comparable = _find_letter(match[2], letters), make_comparable(match[1])
        if letter is not None and comparable in options.values():
            return letter if options.get(letter) == comparable else UNREADABLE
    reason = REASON.search(text)
    head = text[: reason.start()] if reason else text
    if not DENIALS.isdisjoint(find_words(head)) or CORRECTION.search(text):
        return UNREADABLE
    named = {match[1].upper() for match in _NAMED.finditer(head)}
    alone = {match[1] for match in _ALONE.finditer(head) if match[1] in letters and not _is_article(match, head)}
    if len(named | alone) != 1:
        return UNREADABLE
    return _find_letter((named | alone).pop(), letters) or UNREADABLE if named else UNREADABLE
