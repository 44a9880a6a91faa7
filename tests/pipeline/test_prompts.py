from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.pipeline.prompts import render

WORDS = {"description": "DES", "input_instruction": "INP", "output_instruction": "OUT"}
#: What the stages fill each prompt with.
VALUES = {
    "keywords": {"description": "DES", "examples_note": "NOTE", "examples": "EXA"},
    "pattern": {**WORDS, "examples": "EXA"},
    "write": {**WORDS, "pattern": "PAT", "examples": "EXA", "passage": "PAS", "domain": "DOM"},
    "harder": {**WORDS, "sample": "SAM", "domain": "DOM"},
    "easier": {**WORDS, "sample": "SAM", "domain": "DOM"},
    "judge": {"description": "DES", "rubric": "RUB", "item": "ITEM"},
}
#: What is the same in all requests of a run, and so goes first.
SHARED = {"description", "input_instruction", "output_instruction", "pattern", "rubric"}
# Text without white space at its ends, which a prompt does not keep.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: t == t.strip())


def test_every_prompt_file_is_known_here() -> None:
    names = {
        entry.name.removesuffix(".txt")
        for entry in files("dsrl.pipeline.prompts").iterdir()
        if entry.name.endswith(".txt")
    }
    assert names == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_every_value_stands_in_the_prompt(name: str) -> None:
    text = "\n".join(message.content for message in render(name, **VALUES[name]))
    for key, value in VALUES[name].items():
        assert text.count(value) == 1, key
    assert not re.search(r"\$\w", text)


@pytest.mark.parametrize("name", VALUES)
def test_a_missing_value_is_a_fault(name: str) -> None:
    for key in VALUES[name]:
        with pytest.raises(KeyError):
            render(name, **{other: value for other, value in VALUES[name].items() if other != key})


@pytest.mark.parametrize("name", ["write", "harder", "easier", "judge"])
def test_what_is_shared_goes_first_and_what_is_new_last(name: str) -> None:
    first, last = render(name, **VALUES[name])
    assert (first.role, last.role) == ("system", "user")
    for key, value in VALUES[name].items():
        assert value in (first if key in SHARED else last).content, key


@pytest.mark.parametrize("name", ["write", "harder", "easier", "judge"])
def test_the_shared_part_does_not_change_with_what_is_new(name: str) -> None:
    other = {key: value if key in SHARED else value * 2 for key, value in VALUES[name].items()}
    assert render(name, **VALUES[name])[0] == render(name, **other)[0]
    assert render(name, **VALUES[name])[1] != render(name, **other)[1]


@pytest.mark.parametrize("name", ["keywords", "pattern"])
def test_a_prompt_that_is_asked_once_is_one_message(name: str) -> None:
    (message,) = render(name, **VALUES[name])
    assert message.role == "user"


@given(texts)
def test_values_are_put_in_as_they_are(value: str) -> None:
    for text in (value, f"$description ${{sample}} $$ {{}} {{0}} %s \\1 {value}", f"a\n---\n{value}"):
        values = {"input_instruction": "i", "output_instruction": "o", "domain": ""}
        messages = render("harder", description=text, sample=text, **values)
        assert len(messages) == 2
        assert text in messages[0].content
        assert f"\n{text}\n" in messages[1].content
