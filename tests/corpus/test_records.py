"""From lines to records: documents that are cut, and plain texts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from dsrl.corpus import records
from dsrl.corpus.records import Fault, Record, read_json_lines, read_table, read_text


def number(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the lines of a text that are not blank, with their numbers."""
    return ((n, line + b"\n") for n, line in enumerate(text.split(b"\n"), 1) if line.strip())


def test_a_long_document_is_cut_with_its_id_and_title() -> None:
    text = "The first sentence is here. " * 20
    line = json.dumps({"id": "x", "title": "T", "text": text}).encode()
    whole = list(read_json_lines([(3, line)], 0))
    assert whole == [Record(3, "x", "T", text.strip())]
    parts = list(read_json_lines([(3, line)], 200))
    assert len(parts) == 3
    assert all(isinstance(part, Record) and part[:3] == (3, "x", "T") and len(part.text) <= 200 for part in parts)
    assert [part.part for part in parts if isinstance(part, Record)] == [1, 2, 3]
    assert " ".join(part.text for part in parts if isinstance(part, Record)) == text.strip()


def test_a_well_formed_record_without_text_is_foreign_and_a_broken_one_is_not() -> None:
    faults = list(read_json_lines([(1, b'{"instruction": 1}'), (2, b"{"), (3, None), (4, b'{"text": ""}')], 0))
    assert [fault.is_foreign for fault in faults if isinstance(fault, Fault)] == [True, False, False, False]
    assert list(read_table([(1, {"q": 1})], 0)) == [Fault(1, "no field 'text'; the fields are 'q'", True)]


def test_a_plain_text_is_cut_and_each_passage_knows_its_line() -> None:
    lines = [f"Line {n} tells of the number {n} and of nothing else at all." for n in range(1, 11)]
    text = "\n".join(lines[:5]) + "\n\n\n" + "\r\n".join(lines[5:])
    found = list(read_text(number(text.encode()), "title", 200))
    assert all(isinstance(each, Record) and each.title == "title" and not each.part for each in found)
    for each in found:
        assert isinstance(each, Record)
        word = int(each.text.split()[1])
        assert each.number == (word if word <= 5 else word + 2)
    joined = "\n".join(each.text for each in found if isinstance(each, Record))
    assert [line for line in joined.split("\n") if line] == lines


def test_an_empty_line_stays_in_a_passage() -> None:
    assert list(read_text(number(b"One.\n\n\nTwo.\n"), "", 100)) == [Record(1, "", "", "One.\n\nTwo.")]


def test_passages_that_begin_in_one_line_are_numbered() -> None:
    (first, second, third) = read_text([(7, b"A sentence of this text. " * 10)], "", 100)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert isinstance(third, Record)
    assert [(each.number, each.part) for each in (first, second, third)] == [(7, 0), (7, 2), (7, 3)]


def test_a_bad_line_ends_the_passage_before_it_and_no_other_line_is_lost() -> None:
    found = list(read_text(number(b"One.\n\xff\nTwo.\nThree."), "", 100))
    assert found == [Record(1, "", "", "One."), Fault(2, "not UTF-8 at byte 1"), Record(3, "", "", "Two.\nThree.")]


def test_markdown_has_the_title_of_its_first_heading() -> None:
    for text, title in (
        ("# The Rhine #\n\nIt flows.", "The Rhine"),
        ("It flows.\n# Late", "file"),
        ("## Two\n", "file"),
    ):
        (record,) = read_text(number(text.encode()), "file", 100, is_markdown=True)
        assert isinstance(record, Record)
        assert record.title == title
    (record,) = read_text(number(b"# No heading"), "file", 100)
    assert isinstance(record, Record)
    assert record.title == "file"


@given(st.text(st.sampled_from("ab. \n"), max_size=3000), st.integers(10, 60), st.integers(1, 5))
def test_a_text_of_any_size_is_cut_in_steps_and_nothing_is_lost(text: str, length: int, block: int) -> None:
    before, records._BLOCK = records._BLOCK, block
    try:
        found = [each for each in read_text(number(text.encode()), "", length) if isinstance(each, Record)]
    finally:
        records._BLOCK = before
    assert "".join("".join(each.text.split()) for each in found) == "".join(text.split())
    lines = text.split("\n")
    for each in found:
        assert each.text.split("\n")[0].strip() in lines[each.number - 1]
    assert len({(each.number, each.part) for each in found}) == len(found)
