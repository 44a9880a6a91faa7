from __future__ import annotations

import json
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import SAMPLE_SCHEMA, Definition
from dsrl.pipeline.stages.initial import NEXT_TRY, SampleSource, read_sample, write_initial
from dsrl.pipeline.stages.passages import PASSAGE_LENGTH
from dsrl.types import Example, Passage, Reply, Sample

GOOD = '{"input": "1 + 1?", "output": "2"}'
SAMPLE = Example("1 + 1?", "2")
REASONS = {"truncated", "not_json", "no_input_or_output"}


# --- reading a sample ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n\t{GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"Here is the sample:\n```\n{GOOD}\n```\nI hope that it helps.",
        f"Sure! {GOOD}",
        "{'input': '1 + 1?', 'output': '2'}",
        '{"Input": "1 + 1?", "OUTPUT ": "2"}',
        '{"input": "1 + 1?", "output": "2",}',
        '{"input": "1 + 1?", "output": "2"',
        '{"input": "1 + 1?", "output": "2',
        '{"input": "1 + 1?", "output": 2}',
        '{"id": {"a": [1]}, "input": " 1 + 1? ", "output": "2\\n"}',
        '\ufeff{"input": "1 + 1?", "output": "2"}',
        f"Take a pair {{a, b}} and add: {GOOD}",
        f"The set {{1, 2}}.\n```json\n{GOOD}\n```",
        f"{GOOD}\nThe answer stands in {{braces}}.",
        f"[{GOOD}]",
    ],
)
def test_a_sample_is_found_in_what_teachers_write(text: str) -> None:
    assert read_sample(Reply(text)) == (SAMPLE, None)


def test_line_ends_inside_of_strings_are_kept() -> None:
    assert read_sample(Reply('{"input": "a\nb", "output": "c\\nd"}')) == (Example("a\nb", "c\nd"), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_json"),
        ("I cannot do that.", "not_json"),
        ("[1, 2]", "not_json"),
        ('"text"', "not_json"),
        ("null", "not_json"),
        ("{", "no_input_or_output|not_json"),
        ("{}", "no_input_or_output"),
        ('{"input": "a"}', "no_input_or_output"),
        ('{"input": "", "output": "b"}', "no_input_or_output"),
        ('{"input": " ", "output": "b"}', "no_input_or_output"),
        ('{"input": null, "output": "b"}', "no_input_or_output"),
        ('{"input": true, "output": "b"}', "no_input_or_output"),
        ('{"input": ["a"], "output": "b"}', "no_input_or_output"),
        ('{"input": {"premise": "a", "hypothesis": "b"}, "output": "c"}', "no_input_or_output"),
        ('{"sample": {"input": "a", "output": "b"}}', "no_input_or_output"),
    ],
)
def test_what_is_no_sample_is_dropped_with_a_reason(text: str, reason: str) -> None:
    example, why = read_sample(Reply(text))
    assert example == Example("", text), "the text of the reply is kept for the user"
    assert why in reason.split("|")


def test_a_reply_that_was_cut_off_is_dropped_even_if_it_can_be_read() -> None:
    assert read_sample(Reply(GOOD, "length")) == (Example("", GOOD), "truncated")


def test_half_surrogates_become_storable() -> None:
    example, reason = read_sample(Reply('{"input": "a\\ud800", "output": "\\ud83d\\ude00"}'))
    assert (example, reason) == (Example("a?", "\U0001f600"), None)


hostile = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "{",
                "}",
                "[",
                "]",
                '"',
                "'",
                ":",
                ",",
                "\\",
                "```json\n",
                '"input"',
                '"output"',
                GOOD,
                "\\u",
                "\ud800",
                "//",
            ]
        ),
        st.text(max_size=5),
    ),
    max_size=30,
).map("".join)


@given(st.one_of(hostile, st.text()), st.sampled_from(["stop", "length", "content_filter"]))
@settings(max_examples=400)
def test_any_reply_is_a_sample_or_a_reason(text: str, finish_reason: str) -> None:
    example, reason = read_sample(Reply(text, finish_reason))
    if reason is None:
        assert example.input.strip()
        assert example.output.strip()
        assert (example.input + example.output).encode()
    else:
        assert reason in REASONS
        assert example.input == ""
        example.output.encode()


@given(st.text(min_size=1), st.text(min_size=1))
@settings(max_examples=200)
def test_any_sample_in_json_is_read_back(input: str, output: str) -> None:
    example, reason = read_sample(Reply(json.dumps({"input": input, "output": output})))
    stored = [text.encode("utf-8", "replace").decode().strip() for text in (input, output)]
    if all(stored):
        assert (example, reason) == (Example(*stored), None)
    else:
        assert reason == "no_input_or_output"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 2_000,
        "[" * 20_000,
        '{"input": ' * 5_000,
        '{"input": "' + "a" * 20_000,
        '{"input": "' + "\\" * 100_000,
        '{"input": ' + "9" * 100_000 + ', "output": 1}',
        "```" * 50_000,
        '"' * 20_000,
        "{" + '"a": 1, ' * 10_000,
    ],
    ids=["braces", "brackets", "nested", "long", "backslashes", "digits", "fences", "quotes", "keys"],
)
def test_hostile_replies_are_read(text: str) -> None:
    """Deep, long or repeated; a reader that is quadratic in them would not end here."""
    example, reason = read_sample(Reply(text))
    assert reason in REASONS or example.input


def test_a_sample_of_a_megabyte_is_read() -> None:
    text = "a" * 1_000_000
    assert read_sample(Reply(json.dumps({"input": text, "output": "b"}))) == (Example(text, "b"), None)


def test_broken_json_is_read_only_up_to_the_length_of_a_reply() -> None:
    """Reading it takes much longer than reading JSON, and the event loop stands still for so long."""
    assert read_sample(Reply('{"input": "' + "a" * 300_000)) == (Example("", '{"input": "' + "a" * 300_000), "not_json")


# --- asking for a sample ---------------------------------------------------------------------------------------------


def write(asking: Any, definition: Definition, answer: Any, **given: Any) -> tuple[Sample, Any]:
    arguments: dict[str, Any] = {
        "pattern": "",
        "passage": Passage("p7", "text"),
        "iteration": 2,
        "slot": 7,
        "number": 3,
    }
    arguments |= {"rng": Random(0), **given}
    sample, (request,) = asking(
        answer, lambda instructor: write_initial(instructor, definition, SampleSource(**arguments))
    )
    return sample, request


def test_a_slot_gives_a_sample_that_rests_on_its_passage(asking: Any, definition: Definition) -> None:
    sample, request = write(asking, definition, lambda request, number: GOOD)
    assert sample == Sample("2-00007", 2, 7, "initial", "1 + 1?", "2", passage="p7")
    assert (request.purpose, request.first, request.n, request.schema) == ("write", 3, 1, SAMPLE_SCHEMA)
    assert request.variables == {"passage": "text", "domain": ""}
    assert "Passage:\ntext\n" in request.messages[-1].content


def test_a_passage_is_shown_up_to_its_length(asking: Any, definition: Definition) -> None:
    passage = Passage("p", "x" * PASSAGE_LENGTH + "y")
    _, request = write(asking, definition, lambda request, number: GOOD, passage=passage)
    assert request.variables["passage"] == "x" * PASSAGE_LENGTH
    assert "xy" not in request.messages[-1].content


def test_without_a_passage_the_teacher_chooses(asking: Any, definition: Definition) -> None:
    sample, request = write(asking, definition, lambda request, number: GOOD, passage=None)
    assert sample.passage is None
    assert "choose a fitting subject" in request.messages[-1].content


def test_pattern_and_demonstrations_are_shown_where_there_are_any(asking: Any, definition: Definition) -> None:
    demos = tuple(Example(f"demo {number}", "x") for number in range(10))
    own = Definition("d", "i", "o", demos)
    _, request = write(asking, own, lambda request, number: GOOD, pattern="Two words.")
    assert "Two words." in request.messages[0].content
    shown = [demo for demo in demos if json.dumps({"input": demo.input, "output": "x"}) in request.messages[-1].content]
    assert len(shown) == 3
    _, again = write(asking, own, lambda request, number: GOOD, pattern="Two words.")
    assert again.messages == request.messages, "the same draw for the same slot"
    _, bare = write(asking, definition, lambda request, number: GOOD)
    assert "Demonstrations" not in bare.messages[-1].content
    assert "Pattern" not in bare.messages[0].content


@pytest.mark.parametrize(
    ("answer", "kept", "reason"),
    [
        ("no", "no", "not_json"),
        (Reply(GOOD, "length"), GOOD, "truncated"),
        (RowRefused("content_filter"), "", "content_filter"),
    ],
)
def test_a_slot_without_a_sample_is_dropped_with_its_reason(
    asking: Any, definition: Definition, answer: Any, kept: str, reason: str
) -> None:
    sample, _ = write(asking, definition, lambda request, number: answer)
    assert sample == Sample("2-00007", 2, 7, "initial", "", kept, dropped=reason, passage="p7")


# --- another try for a reply that cannot be read ----------------------------------------------------------------------


def test_a_reply_that_cannot_be_read_is_asked_for_anew_where_it_is_wanted(asking: Any, definition: Definition) -> None:
    texts = {3: "no sample", 3 + NEXT_TRY: Reply('{"input": "i", "outp', "length"), 3 + 2 * NEXT_TRY: GOOD}

    def write(tries: int) -> Any:
        return lambda instructor: write_initial(
            replace(instructor, retries_unreadable=tries), definition, SampleSource(1, 0, 3, Random(0))
        )

    first, requests = asking(lambda request, number: texts[number], write(0))
    assert (first.dropped, [r.first for r in requests]) == ("not_json", [3])
    second, requests = asking(lambda request, number: texts[number], write(1))
    assert (second.dropped, len(requests)) == ("truncated", 2)
    third, _ = asking(lambda request, number: texts[number], write(3))
    assert (third.dropped, third.input) == (None, "1 + 1?")


def test_the_number_of_every_try_fits_into_a_database() -> None:
    from dsrl.settings import Settings

    most = {f.name: f.metadata["high"] for f in fields(Settings)}
    highest = (most["seed"] * 1_000 + most["iterations"] - 1) * 1_000_000 + most["samples"] - 1
    assert highest < NEXT_TRY
    assert highest + most["retries_unreadable"] * NEXT_TRY < 2**63
