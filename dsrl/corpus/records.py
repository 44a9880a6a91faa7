"""From the lines and rows of passage files to records: passages without a final id, or the fault of a line."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from dsrl.corpus.cutting import cut_text
from dsrl.corpus.lines import MAX_LINE

#: Length in characters of the passages that plain texts and Markdown are cut into, unless the user says another one. A
#: prompt shows as many.
TEXT_LENGTH = 2048
#: A text is cut whenever so many times the length of a passage were read, so that it may be larger than the memory.
_BLOCK = 32

#: Number and bytes of a line; None for a line that is too long.
Line = tuple[int, bytes | None]


class Record(NamedTuple):
    """A passage of a file.

    Attributes:
        number: the line or row in which it begins.
        id, title: as the file has them; they may be empty.
        text: never empty.
        part: the number, from 1, of this part of a document that was cut; 0 if it was not cut.
    """

    number: int
    id: str
    title: str
    text: str
    part: int = 0


class Fault(NamedTuple):
    """A line or row that is not a passage.

    Attributes:
        number: the number of the line or row.
        reason: what is wrong with it.
        is_foreign: whether it is well-formed and simply holds something else.
    """

    number: int
    reason: str
    is_foreign: bool = False


class _NotAPassage(Exception):
    """A line is not a passage; the text says why."""

    is_foreign = False


class _ForeignRecord(_NotAPassage):
    is_foreign = True


def read_json_lines(lines: Iterable[Line], length: int) -> Iterator[Record | Fault]:
    """Read lines that are JSON objects with ``text``, a string that is not blank, and perhaps ``title`` and ``id``.

    Args:
        lines: the lines of a file.
        length: most characters of a passage; longer texts are cut at sentence ends. 0: no text is cut.
    """
    for number, line in lines:
        try:
            record = _parse(line)
            yield from _make_records(number, record, length)
        except _NotAPassage as fault:
            yield Fault(number, str(fault), fault.is_foreign)


def read_table(rows: Iterable[tuple[int, dict[str, Any]]], length: int) -> Iterator[Record | Fault]:
    """Read the rows of a table with the columns ``text`` and perhaps ``title`` and ``id``; ``length`` as for JSON Lines."""
    for number, row in rows:
        try:
            yield from _make_records(number, {name: _decode(name, value) for name, value in row.items()}, length)
        except _NotAPassage as fault:
            yield Fault(number, str(fault), fault.is_foreign)


def read_text(lines: Iterable[Line], title: str, length: int, is_markdown: bool = False) -> Iterator[Record | Fault]:
    """Read a plain text or Markdown, and cut it into passages at sentence ends.

    A line that is not UTF-8, or too long, is a fault; the passage before it ends there.

    Args:
        lines: the lines of a file; where numbers are left out, there is an empty line.
        title: the title of the passages, unless Markdown begins with a heading.
        length: most characters of a passage.
        is_markdown: whether to look for that heading.
    """
    block = _Block(title, length)
    for number, line in lines:
        try:
            text = _decode_line(line)
        except _NotAPassage as fault:
            yield from block.cut(is_end=True)
            yield Fault(number, str(fault))
            continue
        if is_markdown and text.startswith("# "):
            block.title = text.strip("# \r\n") or title
        is_markdown = False  # the first line is the only one that can be the title
        block.add(number, text.rstrip("\r\n") + "\n")
        if block.size > _BLOCK * length:
            yield from block.cut(is_end=False)
    yield from block.cut(is_end=True)


class _Block:
    """Text that was read and not yet cut, with the places at which its lines begin.

    Attributes:
        title: the title of the passages.
        size: number of characters.
    """

    def __init__(self, title: str, length: int) -> None:
        self.title = title
        self.size = 0
        self._length = length
        self._parts: list[str] = []
        self._starts: list[int] = []
        self._numbers: list[int] = []
        self._last = (0, 0)

    def add(self, number: int, line: str) -> None:
        """Add a line; there is an empty line before it if the number before is left out."""
        if self._numbers and number > self._numbers[-1] + 1:
            self._parts.append("\n")
            self.size += 1
        self._starts.append(self.size)
        self._numbers.append(number)
        self._parts.append(line)
        self.size += len(line)

    def cut(self, is_end: bool) -> Iterator[Record]:
        """Yield the passages; unless the text ends here, the last one stays in the block."""
        text = "".join(self._parts)
        spans = cut_text(text, self._length)
        kept = len(text) if is_end or not spans else spans.pop()[0]
        for start, end in spans:
            number = self._numbers[bisect_right(self._starts, start) - 1]
            # Several passages may begin in one long line.
            self._last = (number, self._last[1] + 1 if number == self._last[0] else 1)
            yield Record(number, "", self.title, text[start:end], self._last[1] if self._last[1] > 1 else 0)
        self._parts, self.size = [text[kept:]], len(text) - kept
        first = bisect_right(self._starts, kept) - 1 if self.size else len(self._starts)
        self._starts = [max(0, start - kept) for start in self._starts[first:]]
        self._numbers = self._numbers[first:]


def _make_records(number: int, record: dict[str, Any], length: int) -> Iterator[Record]:
    passage_id, title, text = _check(record)
    if not length or len(text) <= length:
        yield Record(number, passage_id, title, text)
        return
    for part, (start, end) in enumerate(cut_text(text, length), 1):
        yield Record(number, passage_id, title, text[start:end], part)


def _parse(line: bytes | None) -> dict[str, Any]:
    text = _decode_line(line)
    try:
        record: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise _NotAPassage(f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from None
    except ValueError:
        raise _NotAPassage("not usable JSON: a number with thousands of digits") from None
    except RecursionError:
        raise _NotAPassage("not usable JSON: nested too deeply") from None
    if not isinstance(record, dict):
        raise _NotAPassage(f"not an object but {_kind(record)}")
    return record


def _decode_line(line: bytes | None) -> str:
    if line is None:
        raise _NotAPassage(f"longer than {MAX_LINE // 2**20} MiB")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _NotAPassage(f"not UTF-8 at byte {error.start + 1}") from None


def _decode(name: str, value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    if len(value) > MAX_LINE:
        raise _NotAPassage(f"'{name}' is longer than {MAX_LINE // 2**20} MiB")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _NotAPassage(f"'{name}' is not UTF-8 at byte {error.start + 1}") from None


def _check(record: dict[str, Any]) -> tuple[str, str, str]:
    """Return ``(id, title, text)`` of a record; the first two are empty if the record does not have them."""
    if "text" not in record:
        raise _ForeignRecord(f"no field 'text'; the fields are {_list_keys(record)}")
    text = _get_string(record, "text")
    if not text:
        raise _NotAPassage("'text' is empty")
    number = record.get("id")
    if isinstance(number, int) and not isinstance(number, bool):
        record["id"] = str(number)
    return _get_string(record, "id"), _get_string(record, "title"), text


def _get_string(record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if value is None and field != "text":
        return ""
    if not isinstance(value, str):
        raise _NotAPassage(f"'{field}' is not a string but {_kind(value)}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _NotAPassage(f"'{field}' holds half a surrogate pair at character {error.start + 1}") from None
    return value.strip()


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _list_keys(record: dict[str, Any]) -> str:
    # Escaped and shortened: these names come from a file and are printed on a terminal.
    names = [ascii(key)[:40] for key in list(record)[:5]]
    return ", ".join(names) + (", ..." if len(record) > 5 else "") if names else "none"
