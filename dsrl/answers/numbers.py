"""Read the number that an answer gives.

A number counts only if it is the whole answer, apart from words, a unit and marks around it. A number that is part of an
expression, a range, a date or a choice between numbers is none: whoever paid it would pay for a piece of the answer.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from math import gcd

from dsrl.answers.characters import write_plainly
from dsrl.types import UNREADABLE, Answer

#: Tags and special tokens that can stand around an answer.
_MARKUP = re.compile(r"<\|\w{1,30}\|>|</?(?:s|b|i|u|p|br|sub|strong|em|answer|result)\s?/?>", re.IGNORECASE)
#: Most characters of a text with a number in it, and of a number.
_LONGEST_TEXT = 2000
_LONGEST_NUMBER = 1000

# What nearly all answers look like.
_SIMPLE = re.compile(r"-?[1-9]\d{0,17}|0")
# Everything that may belong to one number. An exponent has at most two digits.
_RUN = re.compile(r"\.?\d[\d,.]*(?:[eE][-+]?\d+)?")
_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+")
_EXPONENT = re.compile(r"[eE]([-+]?\d{1,2})")
_FRACTION = re.compile(r"([-+]?)(\d{1,9})\s?[/\u2044]\s?(\d{1,9})")
_THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")

# Signs and a currency directly before the number.
_SIGN = re.compile(r"([-+]?)((?:\b(?:US|CA|AU|NZ|HK|C|A))?[$\u20ac\u00a3\u00a5\u20b9] ?)?([-+]?)\Z")
_BEFORE_SIGN = re.compile(r"(?:^|[:=(\[{\"'>]|\b(?:is|are|be|was|equals|answer|result|total|to))\s*\Z")
_BEFORE_NUMBER = re.compile(r"(?:^|[\s:=(\[{\"'>\u2248~])\Z")
_AFTER_NUMBER = re.compile(
    r"\Z|[\s.,;:?)\]}\"'%$\u20ac\u00a3\u00a5\u20b9\u00a2\u00b0]|-(?=[A-Za-z]{2})|/(?=[A-Za-z]{2})|(?P<unit>[^\W\d_]+)"
)
_OPERATORS = re.compile(r"[+*/^<>|&@#_!\\\u00b1\u00d7\u00f7\u221a\u00b7]|(?<!\w)-|-(?!\w)")
_UNIT_SLASH = re.compile(r"(?<=[^\W\d_]) ?/ ?(?=[^\W\d_])|^ ?/ ?(?=[^\W\d_]{2})")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_LATEX_WORD = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf)|boxed|quad|left|right|approx)(?![A-Za-z])|\\[()\[\],;: !]"
)

# Words that deny the number, leave a choice, or make another number of it.
_CHANGING = (
    "not no never neither nor none cannot can't or wrong incorrect false unknown half halves third thirds quarter quarters "
    "fourths fifths tenths hundred hundreds thousand thousands million millions billion billions trillion k m bn "
    "squared cubed factorial root sqrt log ln sin cos tan exp pi infinity power plus minus multiplied divided modulo mod"
)
_NUMERALS = frozenset(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety".split()
)
_CHANGING_AFTER = frozenset(_CHANGING.split())
_CHANGING_BEFORE = (
    _CHANGING_AFTER
    | _NUMERALS
    | frozenset(
        "between than least most up under over below above within except but twice thrice double doubled triple tripled "
        "negative times point".split()
    )
)
#: Units of one letter; any other letter alone is a variable.
_SHORT_UNITS = frozenset("a m g h s l L C F".split())


def read_number(text: str) -> Answer:
    """Return the number in canonical form (``1234.5``, ``-3``, ``1/3``); ``UNREADABLE`` if the text gives none.

    ``72``, ``72.0``, ``$72``, ``72%``, ``72.``, ``**72**`` and ``72 apples`` are the same number. A fraction counts in
    lowest terms only (``1/2`` is 0.5, ``144/2`` is a division that nobody did).
    """
    if _SIMPLE.fullmatch(text):
        return text
    if len(text) > _LONGEST_TEXT:
        return UNREADABLE
    text = _remove_marks(write_plainly(_THOUSANDS.sub("", text)))
    runs = [match.span() for match in _RUN.finditer(text)]
    if len(runs) == 2:
        return _read_fraction(text)
    if len(runs) != 1:
        return UNREADABLE
    start, end = runs[0]
    number = text[start:end]
    if number[-1] in ".,":
        number, end = number[:-1], end - 1
    sign = _read_before(text[:start])
    return UNREADABLE if sign is None or not _allows(text[end:]) else _write(sign, number)


def _remove_marks(text: str) -> str:
    """Remove what only decides how the text looks: Markdown and LaTeX."""
    text = text.strip()
    if "<" in text:
        text = _MARKUP.sub(" ", text)
    if "\\" in text:
        text = re.sub(r"(?<=\d)\\[,!](?=\d{3}(?!\d))|\\(?=[$%])|(?<=\\)\\", "", text)
        text = _LATEX_WORD.sub(" ", text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d{3})", ",", text)
    # Two marks become a space, so that 2**10 does not become 210.
    text = text.replace("**", " ").replace("__", " ").replace("`", " ").strip()
    for mark in "*_$":
        if len(text) > 2 and text[0] == text[-1] == mark:
            text = text[1:-1].strip()
    return text


def _read_before(text: str) -> str | None:
    """Return the sign of the number that follows the text; None if the text makes another number of it."""
    match = _SIGN.search(text)
    assert match is not None  # all parts of the pattern are optional
    first, currency, second = match.groups()
    rest = text[: match.start()]
    sign = first or second
    if (first and second) or (
        not (_BEFORE_SIGN if sign else _BEFORE_NUMBER).search(rest) and not (currency and not sign)
    ):
        return None
    # What stands on the left of an equals sign is explanation: "x + y = 72".
    left, equals, tail = rest.rpartition("=")
    if equals and left[-1:] in {"!", "<", ">", "/", "~", ":"}:
        return None
    tail = tail.rstrip("~\u2248 ")
    return sign if _is_harmless(tail, _CHANGING_BEFORE) else None


def _allows(text: str) -> bool:
    """Return whether the text can follow a number that is an answer."""
    match = _AFTER_NUMBER.match(text)
    if match is None or "=" in text:
        return False
    unit = match["unit"]
    if unit and (
        unit in _CHANGING_AFTER or (len(unit) == 1 and unit not in _SHORT_UNITS) or unit.lower() in {"pi", "e"}
    ):
        return False
    # Square metres: the exponent belongs to the unit.
    text = re.sub(r"(?<=[^\W\d_])[\u00b2\u00b3]", "", _UNIT_SLASH.sub(" ", text))
    text = re.sub(r"^ ?-+ ?(?=[^\W\d_]{2})|(?<=\s)-+(?=\s+[^\W\d_]{2})", " ", text)
    # "72 (seventy-two)" says the number again, "20 two" is another one.
    first = _WORD.match(text.lstrip(" -"))
    return (first is None or first[0].lower() not in _NUMERALS) and _is_harmless(text, _CHANGING_AFTER)


def _is_harmless(text: str, changing: frozenset[str]) -> bool:
    """Return whether no operator, no variable and no word in the text changes the number beside it."""
    if not text or text.isspace():
        return True
    if _OPERATORS.search(text) or (not text.isascii() and any(map(_is_mathematical, text))):
        return False
    words = [word for word in _WORD.findall(text) if word not in _SHORT_UNITS and word not in ("I", "A")]
    return not any(len(word) == 1 or word.lower() in changing or word.lower().endswith("n't") for word in words)


def _is_mathematical(character: str) -> bool:
    return character.isnumeric() or (unicodedata.category(character) == "Sm" and character != "\u2248")


def _read_fraction(text: str) -> Answer:
    match = _FRACTION.fullmatch(text.rstrip(". "))
    if match is None:
        return UNREADABLE
    sign, above, below = match[1].replace("+", ""), int(match[2]), int(match[3])
    if below < 2 or above == 0 or gcd(above, below) > 1:
        return UNREADABLE
    rest = below
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest > 1:
        return f"{sign}{above}/{below}"
    # A denominator of twos and fives: at most thirty decimals, and they are exact.
    decimals = f"{above * 10**30 // below:031d}"
    return f"{sign}{decimals[:-30]}.{decimals[-30:]}".rstrip("0")


def _write(sign: str, number: str) -> Answer:
    match = _EXPONENT.search(number)
    digits = number[: match.start()] if match else number
    if len(number) > _LONGEST_NUMBER or not _NUMBER.fullmatch(digits) or (match and match.end() != len(number)):
        return UNREADABLE
    try:
        value = Decimal(f"{sign}{digits.replace(',', '')}{match[0] if match else ''}")
    except InvalidOperation:
        return UNREADABLE
    # Decimal.normalize() and other arithmetic would round to 28 digits.
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
