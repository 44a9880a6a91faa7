"""Reading an object that a model wrote almost in JSON, in one pass.

Models write JSON with single quotes, bare keys, trailing or missing commas, line ends and quotes inside of strings,
LaTeX with single backslashes, comments, and without an end. :func:`read_object` reads these. It goes through the text
once: its time grows with the length of the text, whatever the text is, and it never raises.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

#: A value that is an object or a list: it is passed over.
NESTED: Final = object()

_CLOSING = {'"""': '"""', "'''": "'''", '"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_OPENING = re.compile("|".join(_CLOSING))
# Every repetition is possessive or of bounded length: no pattern may look at one character more than a few times.
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
    """Read the object whose brace stands at ``start``.

    Returns:
        Its fields as far as they can be read: texts, numbers, ``True``, ``False``, ``None``, and :data:`NESTED` for an
        object or a list. The last of several fields of one name counts.
    """
    start += 1
    if text[start : start + 100].lstrip().startswith('\\"'):
        text, start = _unescaped(text[start:]), 0  # an object inside of a JSON string
    return dict(_Reader(text).fields(start))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._last_brace = text.rfind("}")
        # Bare keys count only where the first key is bare: a string may hold a word and a colon.
        self._key = _NEXT_KEY

    def fields(self, at: int) -> list[tuple[str, Any]]:
        found = []
        key = self._key.match(self._text, at) or _ANY_QUOTED_KEY.search(self._text, at)
        if key and key["quoted"]:
            self._key = _NEXT_QUOTED_KEY
        while key:
            value, at = self._value(key.end())
            found.append((key["quoted"] or key["bare"], value))
            if self._at_end(at):
                break
            key = self._key.match(self._text, at) or _ANY_QUOTED_KEY.search(self._text, at)
        return found

    def _value(self, at: int) -> tuple[Any, int]:
        """Give the value that begins at ``at`` and where it ends."""
        while at < len(self._text) and self._text[at].isspace():
            at += 1
        if opening := _OPENING.match(self._text, at):
            return self._string(opening.end(), _CLOSING[opening.group()])
        if self._text[at : at + 1] in ("{", "["):
            return NESTED, self._past_nested(at)
        return self._bare(at)

    def _string(self, start: int, quote: str) -> tuple[str, int]:
        """Read a string up to the first quote that the object goes on or ends behind."""
        perhaps = None
        for mark in re.compile(rf"\\.|{quote}", re.DOTALL).finditer(self._text, start):
            if mark.group() != quote:
                continue
            if self._at_end(mark.end()) or self._key.match(self._text, mark.end()):
                return _unescaped(self._text[start : mark.start()]), mark.end()
            if perhaps is None and _LINE_END.match(self._text, mark.end()):
                perhaps = mark.start()
        end = len(self._text)
        if perhaps is not None:  # prose follows, which holds braces or comes without the closing brace
            return _unescaped(self._text[start:perhaps]), end
        value = self._text[start:].rstrip()
        if value.count("}") > value.count("{"):
            value = value[: value.rindex("}")].rstrip()  # the closing quote is missing
        return _unescaped(value), end

    def _bare(self, start: int) -> tuple[Any, int]:
        """Read a value without quotes up to the next field, the end of the object or a line's end."""
        text, end = self._text, len(self._text)
        for mark in re.compile(r"[,;\n}]").finditer(text, start):
            at = mark.start()
            if mark.group() == "\n" or self._at_end(at) or self._key.match(text, at):
                end = at
                break
        value = text[start:end].strip().rstrip(",;").rstrip()
        try:
            return json.loads(value), end
        except (ValueError, RecursionError):
            return _NO_TEXT.get(value.lower(), value), end

    def _at_end(self, at: int) -> bool:
        """Say whether nothing but the end of the object follows; a brace inside of a string is followed by more."""
        if _AT_END.match(self._text, at):
            return True
        brace = _CLOSING_BRACE.match(self._text, at)
        return brace is not None and brace.end() - 1 == self._last_brace

    def _past_nested(self, at: int) -> int:
        depth, inside = 0, False
        for token in _TOKEN.finditer(self._text, at):
            mark = token.group()
            if mark == '"':
                inside = not inside
            elif not inside and len(mark) == 1:
                depth += 1 if mark in "{[" else -1
                if depth == 0:
                    return token.end()
        return len(self._text)


def _unescaped(text: str) -> str:
    """Read the escapes of JSON; a backslash before another character is LaTeX's and stays.

    So does that of ``\\b`` and ``\\f``: ``\\boxed`` and ``\\frac`` are written, backspaces and form feeds are not.
    """
    if "\\" not in text:
        return text

    def read(escape: re.Match[str]) -> str:
        code, letter = escape.groups()
        return chr(int(code, 16)) if code else _PLAIN.get(letter, escape.group())

    # Two halves of a pair, each escaped, are one character.
    return _ESCAPE.sub(read, text).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
