"""Write the characters of an answer in their plain form: full-width letters, other digits, dashes, spaces, quotes."""

from __future__ import annotations

import unicodedata

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"
_REPLACEMENTS = {
    **dict.fromkeys(_DASHES, "-"),
    **dict.fromkeys("\u2018\u2019\u201b\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u300c\u300d", '"'),
    "\u3010": "[",
    "\u3011": "]",
    "\u3002": ".",
    "\u2026": "...",
    "\uffe5": "\u00a5",
}
#: Most characters whose plain form is remembered.
_MOST_REMEMBERED = 10_000


class _PlainForms(dict[int, str | None]):
    """The table for ``str.translate``; it grows with the characters that are met."""

    def __missing__(self, code: int) -> str | None:
        plain = _find_plain_form(chr(code))
        if len(self) < _MOST_REMEMBERED:
            self[code] = plain
        return plain


def _find_plain_form(character: str) -> str | None:
    if character in _REPLACEMENTS:
        return _REPLACEMENTS[character]
    if character.isascii():
        return character
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    # Characters that one does not see: zero-width spaces, marks of direction, soft hyphens.
    if category == "Cf":
        return None
    return " " if character.isspace() else character


_plain_forms = _PlainForms()


def write_plainly(text: str) -> str:
    """Return the text with full-width characters, digits of any script, dashes, spaces and quotes in their ASCII form.

    Unlike Unicode's form NFKC, this leaves superscripts and fractions alone: they are not digits of a number.
    """
    return text if text.isascii() else text.translate(_plain_forms)
