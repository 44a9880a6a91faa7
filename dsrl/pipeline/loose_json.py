"""A reader for objects that a model wrote almost in JSON, in one pass.

Models write JSON with single quotes, keys without quotes, trailing or missing commas, line ends and quotes inside strings,
LaTeX with single backslashes, comments, and without an end. :func:`read_object` reads all of these. It goes through the text
once: its time grows in proportion to the length of any text, and it never raises.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

#: Stands for a value that is an object or a list; the reader skips it.
NESTED: Final = object()

_CLOSING = {'"""': '"""', "'''": "'''", '"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_OPENING = re.compile("|".join(_CLOSING))
# Every repetition is possessive or bounded, so that no pattern looks at a character more than a few times.
_COMMENT = r"(?:(?://|\#)[^\n]{0,200}\n\s*+)?"
_GAP = rf"\s*+[,;]?\s*+{_COMMENT}"
_QUOTED_KEY = r"[\"'`“‘](?P<quoted>[\w][\w \-]{0,63})[\"'`”’]\s*+(?:=>?|:)"
_BARE_KEY = r"(?P<bare>[A-Za-z_][\w\-]{0,63})\s*+(?:=>?|:)"
_NEXT_QUOTED_KEY = re.compile(_GAP + _QUOTED_KEY)
_NEXT_KEY = re.compile(rf"{_GAP}(?:{_QUOTED_KEY}|{_BARE_KEY})")
_ANY_QUOTED_KEY = re.compile(_QUOTED_KEY)
_AT_END = re.compile(_GAP + r"(?:\Z|```|[}\]]\s*+(?:\Z|```|[}\],{]))")
_CLOSING_BRACE = re.compile(_GAP + r"\}")
_LINE_END = re.compile(r"[ \t]*+,?+(?:\s*+\})?[ \t]*+\n")
_TOKEN = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_PLAIN = {'"': '"', "'": "'", "\\": "\\", "/": "/", "n": "\n", "t": "\t", "r": "\r", "\n": "\n"}
_NO_TEXT = {"none": None, "null": None, "true": True, "false": False}


def read_object(text: str, start: int) -> dict[str, Any]:
    """Read the object whose opening brace is at ``start``.

    Returns:
        The fields that can be read. Values are texts, numbers, ``True``, ``False``, ``None``, and :data:`NESTED` for an
        object or a list. If a name comes more than once, its last value counts.
    """
    start += 1
    if text[start : start + 100].lstrip().startswith('\\"'):
        text, start = _unescape(text[start:]), 0  # an object inside a JSON string
    return dict(_Reader(text).read_fields(start))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._last_brace = text.rfind("}")
        # Keys without quotes count only if the first key has none: a string may hold a word and a colon.
        self._key = _NEXT_KEY

    def read_fields(self, at: int) -> list[tuple[str, Any]]:
        fields = []
        key = self._key.match(self._text, at) or _ANY_QUOTED_KEY.search(self._text, at)
        if key and key["quoted"]:
            self._key = _NEXT_QUOTED_KEY
        while key:
            value, at = self._read_value(key.end())
            fields.append((key["quoted"] or key["bare"], value))
            if self._is_end(at):
                break
            key = self._key.match(self._text, at) or _ANY_QUOTED_KEY.search(self._text, at)
        return fields

    def _read_value(self, at: int) -> tuple[Any, int]:
        """Return the value that begins at ``at``, and where it ends."""
        while at < len(self._text) and self._text[at].isspace():
            at += 1
        if opening := _OPENING.match(self._text, at):
            return self._read_string(opening.end(), _CLOSING[opening.group()])
        if self._text[at : at + 1] in ("{", "["):
            return NESTED, self._skip_nested(at)
        return self._read_bare(at)

    def _read_string(self, start: int, quote: str) -> tuple[str, int]:
        """Read a string up to the first quote that is followed by another field or by the end of the object."""
        candidate = None
        for mark in re.compile(rf"\\.|{quote}", re.DOTALL).finditer(self._text, start):
            if mark.group() != quote:
                continue
            if self._is_end(mark.end()) or self._key.match(self._text, mark.end()):
                return _unescape(self._text[start : mark.start()]), mark.end()
            if candidate is None and _LINE_END.match(self._text, mark.end()):
                candidate = mark.start()
        end = len(self._text)
        if candidate is not None:  # other text follows, with braces or without the closing brace
            return _unescape(self._text[start:candidate]), end
        value = self._text[start:].rstrip()
        if value.count("}") > value.count("{"):
            value = value[: value.rindex("}")].rstrip()  # the closing quote is missing
        return _unescape(value), end

    def _read_bare(self, start: int) -> tuple[Any, int]:
        """Read a value without quotes, up to the next field, the end of the object or the end of the line."""
        text, end = self._text, len(self._text)
        for mark in re.compile(r"[,;\n}]").finditer(text, start):
            at = mark.start()
            if mark.group() == "\n" or self._is_end(at) or self._key.match(text, at):
                end = at
                break
        value = text[start:end].strip().rstrip(",;").rstrip()
        try:
            return json.loads(value), end
        except (ValueError, RecursionError):
            return _NO_TEXT.get(value.lower(), value), end

    def _is_end(self, at: int) -> bool:
        """Return whether only the end of the object follows; a brace inside a string is followed by more."""
        if _AT_END.match(self._text, at):
            return True
        brace = _CLOSING_BRACE.match(self._text, at)
        return brace is not None and brace.end() - 1 == self._last_brace

    def _skip_nested(self, at: int) -> int:
        depth, in_string = 0, False
        for token in _TOKEN.finditer(self._text, at):
            mark = token.group()
            if mark == '"':
                in_string = not in_string
            elif not in_string and len(mark) == 1:
                depth += 1 if mark in "{[" else -1
                if depth == 0:
                    return token.end()
        return len(self._text)


def _unescape(text: str) -> str:
    """Replace the escapes of JSON; a backslash before any other character belongs to LaTeX and stays.

    The backslash of ``\\b`` and ``\\f`` stays too: models write ``\\boxed`` and ``\\frac``, but no backspaces.
    """
    if "\\" not in text:
        return text

    def replace(escape: re.Match[str]) -> str:
        code, letter = escape.groups()
        return chr(int(code, 16)) if code else _PLAIN.get(letter, escape.group())

    # The two halves of a surrogate pair, each escaped, are one character.
    return _ESCAPE.sub(replace, text).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
