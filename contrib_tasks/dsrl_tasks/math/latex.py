"""Bring the LaTeX of an answer to one spelling, without a parser: what looks the same is written the same."""

from __future__ import annotations

import re

#: Most characters of an answer; a longer one is no answer and would only take time.
LONGEST_ANSWER = 2000

# Superscripts and fractions are not digits: they must never be joined to the digits before them.
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_FRACTIONS = {
    "½": "12",
    "⅓": "13",
    "⅔": "23",
    "¼": "14",
    "¾": "34",
    "⅕": "15",
    "⅖": "25",
    "⅗": "35",
    "⅘": "45",
    "⅙": "16",
}
_CHARACTERS = str.maketrans(
    {
        **{chr(0xFF01 + n): chr(0x21 + n) for n in range(94)},  # full-width forms
        **{c: f"^{n}" for n, c in enumerate(_SUPERSCRIPTS)},
        **{c: rf"\frac{{{pair[0]}}}{{{pair[1]}}}" for c, pair in _FRACTIONS.items()},
        **dict.fromkeys("−–—‐‑﹣", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u3000", " "),
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "°": r"^\circ ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "±": r"\pm ",
        "∅": r"\emptyset ",
        "⁄": "/",
        "，": ",",
        "％": "%",
        "θ": r"\theta ",
    }
)
_SPACES = re.compile(r"(?<!\\)\\[,;:> ]|~|\\q?quad(?![A-Za-z])|\s+")
_NOTHING = re.compile(
    r"\\!|\\\$|\$|\\(?:left|right|displaystyle|textstyle|limits|[bB]igg?[lr]?)(?![A-Za-z])|\\[()]|\\mathstrut(?![A-Za-z])"
)
_NAMES = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (
        re.compile(r"\\(?:mbox|hbox|mathrm|textbf|textit|textrm|textnormal|textsf|mathbf|rm|operatorname)\s*\{"),
        r"\\text{",
    ),
    (re.compile(r"\\neq(?![A-Za-z])"), r"\\ne"),
    (re.compile(r"\\leq(?:slant)?(?![A-Za-z])|<="), r"\\le "),
    (re.compile(r"\\geq(?:slant)?(?![A-Za-z])|>="), r"\\ge "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset "),
    (re.compile(r"\\(?:lbrace)(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace)(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z])"), "|"),
    (re.compile(r"\\ast(?![A-Za-z])|\*\*?"), lambda m: "^" if m.group() == "**" else r"\cdot "),
    (re.compile(r"√\s*\(([^()]*)\)|(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)"), lambda m: rf"\sqrt{{{m[1] or m[2] or ''}}}"),
    (re.compile(r"√\s*([0-9]+|[a-z])"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(pi|infty)(?![A-Za-z])"), r"\\\1 "),
    (re.compile(r"\{,\}"), ","),
)
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\deg(?:ree)?s?(?![A-Za-z])")
_PERCENT = re.compile(r"\\?%")
# \frac12, \frac1{72}, \frac{1}2, \sqrt2
_FRACTION = re.compile(r"\\frac\s*(\{[^{}]*\}|[0-9a-zA-Z])\s*(\{[^{}]*\}|[0-9a-zA-Z])")
_ROOT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_BRACED = re.compile(r"([\^_])\s*\{\s*([0-9a-zA-Z])\s*\}")


def normalise(text: str) -> str:
    """Return the text in one spelling; the meaning of spaces between words and digits is kept. Linear in its length."""
    text = text.translate(_CHARACTERS)
    text = _NOTHING.sub("", text)
    text = _SPACES.sub(" ", text)
    for pattern, replacement in _NAMES:
        text = pattern.sub(replacement, text)
    text = _FRACTION.sub(lambda m: rf"\frac{{{m[1].strip('{}').strip()}}}{{{m[2].strip('{}').strip()}}}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    text = _BRACED.sub(r"\1\2", text)
    return remove_spaces(text)


# A space stays between two words, two numbers, and inside \text{...}.
_SPACE = re.compile(
    r"(\\text\{[^{}]*\})|(?<![0-9A-Za-z])[ ]|(?<=[0-9]) (?![0-9])|(?<=[A-Za-z]) (?![A-Za-z0-9])| (?![0-9A-Za-z])"
)


def remove_spaces(text: str) -> str:
    """Remove the spaces that say nothing."""
    return _SPACE.sub(lambda m: m[1] or "", " ".join(text.split())).strip()


def remove_degrees(text: str) -> str:
    """Remove the sign of degrees at the end."""
    return _remove_end(_DEGREES, text)


def remove_percent(text: str) -> str:
    """Remove the sign of percent at the end."""
    return _remove_end(_PERCENT, text)


def _remove_end(pattern: re.Pattern[str], text: str) -> str:
    matches = list(pattern.finditer(text))
    return text[: matches[-1].start()].rstrip() if matches and not text[matches[-1].end() :].strip() else text


# What may follow a number as a unit in plain letters.
_UNITS = frozenset(
    """
    mm cm m km in inch inches ft foot feet yd yard yards mi mile miles meter meters metre metres centimeter centimeters
    kilometer kilometers g gram grams kg kilogram kilograms lb lbs pound pounds oz ounce ounces s sec second seconds min
    minute minutes h hr hour hours day days week weeks month months year years dollar dollars cent cents unit units degree
    degrees percent ml l liter liters litre litres mph square cubic sq cu per ways people students points
    """.split()
)
# Words in \text{...} after a number that make another number, or more than one answer, of it.
_NOT_A_UNIT = frozenset(
    """
    tenths hundredths thousandths millionths maybe perhaps possibly
    or and not no nor never hundred hundreds thousand thousands million millions billion billions trillion dozen dozens half
    halves third thirds quarter quarters twice double triple pi times squared cubed plus minus over root factorial base mod
    to by than less more from but if when then else either neither is are was one two three four five six seven eight nine
    ten eleven twelve score gross except about approximately around nearly at most least
    """.split()
)
_TEXT_UNIT = re.compile(r"\\text\{([^{}]*)\}(?:\^[0-9]|\^\{[0-9]\})?$")
_BARE_UNIT = re.compile(r"(?<=[0-9}%)]) ?([A-Za-z]+(?: [A-Za-z]+){0,3})(?:\^[0-9])?$")


def remove_unit(text: str) -> str:
    """Remove a unit after a number: ``\\text{...}``, or a usual unit in plain letters, perhaps with an exponent."""
    match = _TEXT_UNIT.search(text)
    if match and re.search(r"[0-9}a-z)]$", text[: match.start()].rstrip()):
        words = re.findall(r"[a-z]+", match[1].lower())
        is_unit = not _NOT_A_UNIT & set(words) and not re.search(r"[0-9=<>+*,]", match[1])
        return text[: match.start()].rstrip() if is_unit else text
    match = _BARE_UNIT.search(text)
    if match and set(match[1].lower().split()) <= _UNITS:
        # "5m" may be a product, "5 m" is a length.
        is_product = len(match[1]) == 1 and text[match.start()] != " "
        return text if is_product else text[: match.start()].rstrip()
    return text
