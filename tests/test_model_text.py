"""Whatever a model or a teacher writes is read in a short time and without an exception.

Every function that reads such a text on the event loop stands in :data:`READERS`. A text of 200,000 characters is longer
than any reply; a reader that needs time that grows with the square of the length needs minutes for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrl.answers import AnswerFormat
from dsrl.datasets import read_json_rows
from dsrl.errors import DataError
from dsrl.pipeline.instructor import Definition, format_example
from dsrl.pipeline.judging import make_submission, read_judgement, tries_to_instruct
from dsrl.pipeline.loose_json import read_object
from dsrl.pipeline.prompts import render
from dsrl.pipeline.stages.initial import read_sample
from dsrl.pipeline.stages.keywords import read_keywords
from dsrl.plugins.binding import load
from dsrl.plugins.scoring import grade
from dsrl.text import printable, replace_surrogates
from dsrl.types import UNREADABLE, Example, Message, PluginRef, Purpose, Reply, Request

#: Seconds of processor time that one text may take.
LIMIT = 0.5
#: Characters of the longest texts.
LONGEST = 200_000

_DEFINITION = Definition("d", "i", "o")
_TASKS = {name: load(PluginRef("task", name), "task") for name in ("mednli", "gsm8k")}
_FORMATS = {
    "tag": AnswerFormat("tag"),
    "tag with choices": AnswerFormat("tag", ("yes", "no", "not sure")),
    "boxed": AnswerFormat("boxed"),
    "hashes": AnswerFormat("hashes"),
    "choice": AnswerFormat("choice", ("entailment", "neutral", "contradiction")),
    "letters": AnswerFormat("choice", ("A", "B", "C", "D")),
}


def _read_demos(text: str) -> Any:
    try:
        return list(read_json_rows(text, "demos"))
    except DataError:
        return None


def _read_loose(text: str) -> Any:
    return read_object(text, text.find("{")) if "{" in text else None


def _render(text: str) -> Any:
    return render("write", **_DEFINITION.get_instructions(), pattern=text, examples=text, passage=text, domain="")


def _answer_by_rule(purpose: Purpose, task: str, **variables: str) -> Callable[[str], Any]:
    teacher = load(PluginRef("teacher", "procedural", {"slip": 0.0}), "teacher")
    teacher.hook.prepare(task=_TASKS[task], model="")

    def answer(text: str) -> Any:
        given = {name: text if value == "TEXT" else value for name, value in variables.items()}
        request = Request(purpose, "", (Message("user", text),), 0.0, 10, 1, variables=given)
        step = teacher.hook.complete(request=request)
        with pytest.raises(StopIteration) as finished:
            step.send(None)
        return finished.value.value

    return answer


READERS: dict[str, Callable[[str], Any]] = {
    "sample": lambda text: read_sample(Reply(text)),
    "judgement": lambda text: read_judgement(Reply(text)),
    "answer to a judge": lambda text: make_submission(text, text, text),
    "attempt to instruct a judge": tries_to_instruct,
    "loose JSON": _read_loose,
    "keywords": read_keywords,
    "rows of JSON": _read_demos,
    "JSON of an example": lambda text: format_example(Example(text, text)),
    "storable text": replace_surrogates,
    "printable text": printable,
    "prompt": _render,
    "prompt of the base model": _DEFINITION.make_prompt,
    **{f"answer in the format {name}": form.extract for name, form in _FORMATS.items()},
    **{f"bare answer in the format {name}": form.canonical for name, form in _FORMATS.items()},
}
for _name, _task in _TASKS.items():
    READERS |= {
        f"{_name}: prediction": lambda text, task=_task: task.hook.process_prediction(output=text),
        f"{_name}: label": lambda text, task=_task: task.hook.process_label(output=text),
        f"{_name}: grade": lambda text, task=_task: grade(task, text, text, ""),
        f"{_name}: reward": lambda text, task=_task: task.hook.reward(output=text, label=text),
        f"{_name}: solve by rule": lambda text, task=_task: task.hook.procedural_solve(input=text),
        f"{_name}: write by rule": lambda text, task=_task: task.hook.procedural_sample(
            seed=1, difficulty=3, passage=text
        ),
        f"{_name}: teacher solves": _answer_by_rule("solve", _name, input="TEXT"),
        f"{_name}: teacher rewrites": _answer_by_rule("rewrite", _name, direction="harder", input="TEXT"),
        f"{_name}: teacher writes": _answer_by_rule("write", _name, passage="TEXT"),
    }

#: What a hostile text is made of: the tokens that some reader looks for, alone and in the middle of something.
TOKENS = (
    *("{", "}", "[", "]", "(", ")", '"', "'", "`", "“", "”", "‘", ":", ",", ";", "=", "\\", "/", "//", "#", "/*", "*/"),
    *("-", "*", "•", "·", ".", "1. ", "(1) ", "9", "9,", "1.", "e9", "$", "%", "+", "-$", "٣", "²"),
    *(" ", "\n", "\t", "\r", "\v", "\x00", "\x1b[", "\x85", "\u2028", "\u200b", "\ufeff", "\ud800", "\udfff", "𝔘", "İ"),
    *('{"', '"}', '",', '":', '["', '"]', '\\"', "\\\\", "\\u", "\\ud83d", "```", "```json", "```json{", '"""', "'''"),
    *('{"input": ', '{"input": "', '"input": "a", ', '"input":"', '"output": ', "input: ", "output: ", "{input"),
    *('{"a": 1, ', '", "b": "', '"//', ",//", ", //\n", '",//"\n', '"\n', '"  ', '" }', '"} ', '"}\n', "},{", '{"a":['),
    *(
        "NaN",
        "Infinity",
        "null",
        "<answer>",
        "</answer>",
        "<answer> a </answer>",
        "\\boxed{",
        "####",
        "#### 1",
        "<think>",
    ),
    *("A", "entailment", "neutral ", "Premise: ", " Hypothesis: ", "Premise: a. Hypothesis: ", "The patient has a. "),
    *("The a was ", "An exam found a. ", "He "),
    *("Ann has 5 apples. ", "Ann buys 3 more. ", "How many ", "a cards", "a ", "a, ", "word\n", "Ann has a fever. "),
)
GOOD = (
    '{"input": "1 + 1?", "output": "2"}',
    'Sure:\n```json\n{"input": "How many {x}?", "output": "#### 2",}\n```\nI hope that it helps.',
    "{'input': 'It\\'s', 'output': 'b'}",
    "Premise: The patient has fever. Hypothesis: The patient has fever.",
    "Ann has 5 apples. Ann buys 3 more. How many apples does Ann have now?",
    "<think> yes </think> <answer> entailment </answer>",
    "1. medicine\n2. surgery\n- care",
)


def texts(longest: int) -> st.SearchStrategy[str]:
    """Give repetitions of a few tokens between other pieces, and good replies that were damaged."""
    piece = st.one_of(st.sampled_from(TOKENS), st.sampled_from(GOOD), st.text(max_size=8))
    unit = st.lists(piece, min_size=1, max_size=3).map("".join)

    def repeated(unit: str, length: int) -> str:
        return (unit * (length // max(1, len(unit))))[:length]

    run = st.builds(repeated, unit, st.sampled_from([longest // 20, longest // 4, longest]))
    damaged = st.builds(
        lambda good, at, piece: good[: at % len(good)] + piece + good[at % len(good) :],
        st.sampled_from(GOOD),
        st.integers(0, 100),
        st.one_of(unit, run),
    )
    long = st.tuples(unit, run, st.one_of(unit, damaged, run), unit)
    return st.one_of(long, damaged.map(lambda text: (text,))).map(lambda parts: "".join(parts)[:longest])


def seconds(reader: Callable[[str], Any], text: str) -> float:
    started = time.thread_time()
    reader(text)
    return time.thread_time() - started


def check(text: str) -> None:
    for name, reader in READERS.items():
        took = seconds(reader, text)
        # Once more, so that a pause of the whole machine is not taken for the reader's time.
        assert took < LIMIT or seconds(reader, text) < LIMIT, f"{name}: {took:.2f} s for {text[:60]!r}... ({len(text)})"


_SETTINGS: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@given(texts(20_000))
@settings(max_examples=100, **_SETTINGS)
def test_any_text_is_read_in_a_short_time(text: str) -> None:
    check(text)


@pytest.mark.slow
@given(texts(LONGEST))
@settings(max_examples=500, **_SETTINGS)
def test_any_long_text_is_read_in_a_short_time(text: str) -> None:
    check(text)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["", "{", '{"input": "', '{"input": "a", "output": '])
@pytest.mark.parametrize("token", TOKENS, ids=ascii)
def test_any_token_may_be_repeated(token: str, start: str) -> None:
    check(start + token * ((LONGEST if not start else 49_000) // len(token)))


# Readers that grew with the square of these texts, or that looked as if they might.
NASTY = {
    "dashes": lambda n: "-" * n,
    "braces": lambda n: "{" * n,
    "brackets": lambda n: "{" + "[" * n,
    "opened strings": lambda n: '{"' * (n // 2),
    "fenced braces": lambda n: "{" + "```json{" * (n // 8),
    "escaped quotes": lambda n: '{"input": "' + '\\"' * (n // 2),
    "nested with escaped quotes": lambda n: '{"a": [' + '"' + '\\"' * (n // 2),
    "quotes": lambda n: '{"input": "' + '"' * n,
    "quotes and spaces": lambda n: '{"input": "' + '"          ' * (n // 11),
    "spaces": lambda n: '{"input": "a"' + " " * n + "x",
    "comments": lambda n: '{"input": "' + '",//' * (n // 4),
    "comment lines": lambda n: '{"input": "' + '"//"\n' * (n // 5),
    "fields": lambda n: "{" + '"a": "b" x ' * (n // 11),
    "bare fields": lambda n: "{" + "a: b, " * (n // 6),
    "lines after strings": lambda n: "{" + '"a": "b"}\n' * (n // 10),
    "premises": lambda n: "Premise: Hypothesis: " * (n // 21) + "x",
    "sentences": lambda n: "Premise: a" + ". He has a" * (n // 10) + ". Hypothesis: The patient has a.",
    "boxes": lambda n: "\\boxed{" * (n // 7),
    "digits": lambda n: "#### " + "9" * n,
    "answers": lambda n: "<answer>" * (n // 8),
}


@pytest.mark.parametrize("family", NASTY)
def test_twice_the_text_takes_about_twice_the_time(family: str) -> None:
    """A reader that is quadratic takes four times as long; what is too quick to measure is quick enough."""
    short, long = NASTY[family](24_000), NASTY[family](48_000)
    for name, reader in READERS.items():
        first = seconds(reader, long)
        assert first < 4 * LIMIT, f"{name}: {first:.2f} s"
        if first < 0.02:
            continue
        times = [min(seconds(reader, text) for _ in range(5)) for text in (short, long)]
        assert times[1] < 3.2 * times[0] + 0.005, f"{name}: {times}"


def test_the_reply_that_a_parsing_library_failed_at_is_read() -> None:
    _, reason = read_sample(Reply('{t:x"“```json{```'))
    assert reason == "no_input_or_output"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("end", ["}", ",}"])
def test_a_number_that_is_none_is_no_text(number: str, end: str) -> None:
    for fields in (f'"input": {number}, "output": "b"', f'"input": "a", "output": {number}'):
        text = "{" + fields + end
        assert read_sample(Reply(text)) == (Example("", text), "no_input_or_output")


def test_numbers_that_are_too_long_for_python_are_read() -> None:
    text = '{"input": "a", "output": ' + "9" * 5_000 + "}"
    assert read_sample(Reply(text)) == (Example("a", "9" * 5_000), None)
    assert AnswerFormat("hashes").extract("#### " + "9" * 5_000) is UNREADABLE


def test_a_good_reply_is_read_by_the_readers_that_are_tested_here() -> None:
    """Else the fuzz would only show that nothing is done quickly."""
    assert READERS["sample"](GOOD[1]) == (Example("How many {x}?", "#### 2"), None)
    assert READERS["mednli: solve by rule"](GOOD[3]).output.endswith("<answer> entailment </answer>")
    assert READERS["gsm8k: solve by rule"](GOOD[4]).output == "#### 8"
    assert READERS["gsm8k: teacher solves"](GOOD[4]).replies[0].text == "#### 8"
    assert json.loads(READERS["mednli: teacher writes"]("fever").replies[0].text)["input"]
