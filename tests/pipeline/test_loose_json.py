from __future__ import annotations

import json
from itertools import product

import pytest

from dsrl.pipeline.loose_json import NESTED, read_object
from dsrl.pipeline.stages.initial import read_sample
from dsrl.types import Example, Reply

#: Inputs and outputs as tasks have them: quotes, braces, LaTeX, several lines, words with colons.
PAIRS = [
    ("Ann has 5 apples. How many now?", "5 + 3 = 8. #### 8"),
    ("Premise: He denies fever.\nHypothesis: He's ill.", "<think> It's no. </think> <answer> neutral </answer>"),
    ('Ann asked, "How many {x} are in {1, 2}?"\nBob: "Two", she said.', "<answer> 2 </answer>"),
    (r"Solve \(x^2 = \frac{a}{b}\), where $a = 4$, b: 1.", r"Since \[x = 2\] \boxed{2}"),
]


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


SHAPES = {
    "trailing comma": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)},}}',
    "code fence": lambda i, o: (
        f'```json\n{{"input": {quoted(i)}, "output": {quoted(o)},}}\n```\nI hope it helps, {{x}}.'
    ),
    "no brace": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)}',
    "no brace, then prose": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)}\n\nI hope it helps.',
    "no brace, then a fence": lambda i, o: f'```\n{{"input": {quoted(i)}, "output": {quoted(o)}\n```\nI hope it helps.',
    "no quote at the end": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)[:-1]}',
    "no comma": lambda i, o: f'{{"input": {quoted(i)}\n "output": {quoted(o)}}}',
    "Python": lambda i, o: repr({"input": i, "output": o}),
    "single quotes": lambda i, o: f"{{'input': '{i}', 'output': '{o}'}}",
    "bare keys": lambda i, o: f"{{input: {quoted(i)}, output: {quoted(o)}}}",
    "line ends in strings": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)},}}'.replace("\\n", "\n"),
    "quotes in strings": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)}}}'.replace('\\"', '"'),
    "single backslashes": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)},}}'.replace("\\\\", "\\"),
    "no escapes": lambda i, o: f'Sure, "here" it is:\n{{"input": "{i}", "output": "{o}"}}\nI hope it helps.',
    "three quotes": lambda i, o: f'{{"input": """{i}""", "output": """{o}"""}}',
    "other fields": lambda i, o: (
        f'{{"why": "x, y: z", "input": {quoted(i)}, "meta": {{"a": [1, "}}"]}}, "output": {quoted(o)},}}'
    ),
    "output first": lambda i, o: f'{{"output": {quoted(o)}, "input": {quoted(i)},}}',
    "escaped": lambda i, o: json.dumps(json.dumps({"input": i, "output": o}))[1:-1],
    "comments": lambda i, o: f'{{\n  "input": {quoted(i)}, // the input\n  "output": {quoted(o)}, # the end\n}}',
    "braces in the prose behind": lambda i, o: f'{{"input": {quoted(i)}, "output": {quoted(o)},}}\n\nNote: {{x}} "y".',
    "two braces": lambda i, o: f'{{{{"input": {quoted(i)}, "output": {quoted(o)},}}}}',
    "several objects": lambda i, o: (
        f'{{"input": {quoted(i)}, "output": {quoted(o)},}}\n{{"input": "c", "output": "d",}}'
    ),
}


@pytest.mark.parametrize(("shape", "pair"), [*product(SHAPES, PAIRS)])
def test_a_sample_is_read_as_it_was_meant(shape: str, pair: tuple[str, str]) -> None:
    assert read_sample(Reply(SHAPES[shape](*pair))) == (Example(*pair), None)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("{", {}),
        ("{}", {}),
        ("{t:x", {"t": "x"}),
        ("{“input”: “a”, ‘output’: `b`}", {"input": "a", "output": "b"}),
        ('{"a" = "b"; "c" => 1}', {"a": "b", "c": 1}),
        (
            '{"a": 3.5, "b": 007, "c": $5, "d": 1,234, "e": 1/2}',
            {"a": 3.5, "b": "007", "c": "$5", "d": "1,234", "e": "1/2"},
        ),
        ('{"a": True, "b": None, "c": null, "d": false}', {"a": True, "b": None, "c": None, "d": False}),
        ('{"a": <answer> b </answer>}', {"a": "<answer> b </answer>"}),
        ('{"a": {"b": "}"}, "c": [1, [2]], "d": "e"}', {"a": NESTED, "c": NESTED, "d": "e"}),
        ('{"a": {"b": 1', {"a": NESTED}),
        ('{"a": "b", "a": "c"}', {"a": "c"}),
        ('{"a": "\\ud83d\\ude00\\u00e9", "b": "\\ud83d"}', {"a": "\U0001f600é", "b": "\ud83d"}),
        ('{"a": "x \\frac \\boxed \\q \\\\ \\/ \\n\\t"}', {"a": "x \\frac \\boxed \\q \\ / \n\t"}),
        ('{"a": "b\\', {"a": "b\\"}),
        ('{"a": "\\boxed{6}', {"a": "\\boxed{6}"}),
        ('{"a": "b}', {"a": "b"}),
        ('{"a', {}),
        ('{"a":', {"a": ""}),
    ],
)
def test_fields_are_read(text: str, fields: dict[str, object]) -> None:
    assert read_object(text, 0) == fields
