from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError, PluginError, SettingsError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.task_files import is_task_file
from dsrl.types import Example, PluginRef

COMPLAINTS = """
description = \"\"\"You get a complaint of a customer.
Find the department that must answer it.\"\"\"
input_instruction = "The input is one complaint."
domains = ["shop", "travel"]

[answer]
form = "tag"
choices = ["billing", "delivery"]

[data]
test = "complaints.csv"
input_columns = ["Complaint"]
output_column = "department"

[[demos]]
input = "I was charged twice."
output = "<answer> billing </answer>"
domain = "shop"
"""
Loaded = Callable[..., Plugin[Any]]


@pytest.fixture
def load_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.chdir(tmp_path)

    def load_text(text: str, name: str = "complaints.toml", **options: Any) -> Plugin[Any]:
        Path(name).write_text(text, encoding="utf-8")
        return load(PluginRef("task", name, options), "task")

    return load_text


def test_a_toml_file_is_a_task(load_file: Loaded) -> None:
    Path("complaints.csv").write_text("complaint,Department\nWhere is my parcel?,Delivery\n")
    task = load_file(COMPLAINTS)
    hook = task.hook
    assert task.name == "complaints.toml"
    assert hook.description() == "You get a complaint of a customer. Find the department that must answer it."
    assert hook.input_instruction() == "The input is one complaint."
    assert "billing or delivery" in hook.output_instruction()
    assert list(hook.domains()) == ["shop", "travel"]
    demo = Example("I was charged twice.", "<answer> billing </answer>", "shop")
    assert list(hook.demos(domain="")) == [demo]
    assert list(hook.demos(domain="shop")) == [demo]
    assert list(hook.demos(domain="travel")) == []
    assert list(hook.load_dataset(path="", split="test")) == [Example("Where is my parcel?", "Delivery")]
    assert hook.load_dataset(path="", split="train") is None
    assert hook.process_label(output="Delivery") == "delivery"
    assert hook.reward(output="<answer> billing </answer>", label="billing") == 1
    assert hook.reward(output="<answer> billing or delivery </answer>", label="billing") == 0


def test_the_task_can_be_loaded_from_another_folder(load_file: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    load_file(COMPLAINTS)
    Path("complaints.csv").write_text("complaint,department\nWhere is my parcel?,delivery\n")
    folder = Path.cwd()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    task = load(PluginRef("task", str(folder / "complaints.toml")), "task")
    assert len(list(task.hook.load_dataset(path="", split="test"))) == 1


def test_its_own_words_and_several_columns(load_file: Loaded) -> None:
    text = COMPLAINTS.replace("domains =", 'output_instruction = "Write one word in a tag."\ndomains =')
    text = text.replace('["Complaint"]', '["Title", "Text"]')
    task = load_file(text)
    assert task.hook.output_instruction() == "Write one word in a tag."
    Path("other.jsonl").write_text('{"title": "Parcel", "text": "Where is it?", "department": "delivery"}\n')
    (item,) = task.hook.load_dataset(path="other.jsonl", split="test")
    assert item.input == "Title: Parcel\nText: Where is it?"


def test_demonstrations_from_a_file(load_file: Loaded) -> None:
    Path("demos.jsonl").write_text('{"input": "a", "output": "billing"}\n')
    text = 'demos = "demos.jsonl"\n' + COMPLAINTS.partition("[[demos]]")[0]
    assert list(load_file(text).hook.demos(domain="")) == [Example("a", "billing")]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("input_instruction", "input_instuction", [":4:", "no key 'input_instuction'", "mean 'input_instruction'?"]),
        ("choices", "choises", [":9:", "[answer] has no key 'choises'", "did you mean 'choices'?"]),
        ("output_column", "outputs", [":14:", "[data] has no key 'outputs'", "did you mean 'output_column'?"]),
        ('output = "<ans', 'answer = "<ans', ["[demos] has no key 'answer'", "the keys there are"]),
        ('form = "tag"', 'form = "tags"', [":8:", "form = 'tags'", "did you mean 'tag'?"]),
        ('form = "tag"', "form = 3", [":8:", "form must be a text"]),
        ('["billing", "delivery"]', '["billing", 2]', [":9:", "choices must be a list of texts"]),
        ('domain = "shop"', 'domain = "sea"', ["demonstration 1 has the domain 'sea'"]),
        ('output = "<answer> billing </answer>"', "", ["demonstration 1 needs input and output"]),
        ("[answer]", "answer = 1\n[other]", ["answer must be a table"]),
        ('form = "tag"', "", ["does not say where the answer stands", "[answer]"]),
        ('input_instruction = "The', 'input_instruction = "The" x', ["is not TOML", "line 4"]),
    ],
)
def test_a_mistake_is_named_with_its_line(load_file: Loaded, old: str, new: str, words: list[str]) -> None:
    assert old in COMPLAINTS
    with pytest.raises(SettingsError) as error:
        load_file(COMPLAINTS.replace(old, new, 1))
    for word in ["complaints.toml", *words]:
        assert word in str(error.value)


def test_files_that_cannot_be_a_task(load_file: Loaded, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no description"):
        load_file('[answer]\nform = "tag"\n')
    with pytest.raises(SettingsError, match=r"there is no task file missing\.toml"):
        load(PluginRef("task", "missing.toml"), "task")
    Path("latin.toml").write_bytes(b'description = "caf\xe9"')
    with pytest.raises(SettingsError, match="is not UTF-8"):
        load(PluginRef("task", "latin.toml"), "task")
    Path("long.toml").write_bytes(b"#" * 2**20 + b"\n")
    with pytest.raises(SettingsError, match="longer than 1,024 KiB"):
        load(PluginRef("task", "long.toml"), "task")
    with pytest.raises(SettingsError, match="takes no options"):
        load_file(COMPLAINTS, choices="x")


def test_a_missing_column_is_named_with_its_place(load_file: Loaded) -> None:
    Path("complaints.csv").write_text("complaint,dept\na,billing\n")
    with pytest.raises(DataError, match=r"no column .*department.*the columns are complaint, dept"):
        list(load_file(COMPLAINTS).hook.load_dataset(path="", split="test"))


PYTHON = """
from dsrl import AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", ("yes", "no"))

@hookimpl
def reward(output, label):
    return 0.5
"""


def test_a_python_file_is_a_task(load_file: Loaded) -> None:
    task = load_file(PYTHON, "lease.py")
    assert task.hook.description() == "Say yes or no."
    assert task.hook.reward(output="x", label="yes") == 0.5
    before = task.digest_code("reward")
    assert load_file(PYTHON.replace("0.5", "0.7"), "lease.py").digest_code("reward") != before


def test_mistakes_in_a_python_file(load_file: Loaded) -> None:
    with pytest.raises(PluginError, match=r"task file lease\.py:3 cannot be run"):
        load_file("\n\nraise ValueError('no')\n", "lease.py")
    with pytest.raises(PluginError, match="lacks output_instruction and process_prediction"):
        load_file(PYTHON.replace("@hookimpl\ndef answer_format", "def _answer_format"), "lease.py")


def test_only_names_with_the_right_ending_are_files() -> None:
    assert [is_task_file(name) for name in ("a.toml", "./b.py", "mednli", "verifiers:x", "a.json")] == [
        *(True, True),
        *(False, False, False),
    ]
