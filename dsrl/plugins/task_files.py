"""Tasks from a file: ``--task ./complaints.toml`` needs no package, and ``--task ./complaints.py`` no entry point.

A TOML file holds the task in words::

    description = "You get a complaint of a customer. Find the department that must answer it."
    input_instruction = "The input is one complaint, in one to five sentences."

    [answer]
    form = "tag"
    choices = ["billing", "delivery", "product"]

    [data]                              # optional; paths are relative to this file
    test = "complaints.csv"
    input_columns = ["complaint"]       # else the column input
    output_column = "department"        # else the column output

    [[demos]]                           # or: demos = "demos.jsonl"
    input = "I was charged twice."
    output = "<answer> billing </answer>"

A Python file holds the hooks of a task (:class:`dsrl.plugins.specs.TaskSpec`), as an installed module would.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from dsrl.answers import FORMS, AnswerFormat
from dsrl.datasets import Columns, read_dataset, read_demos
from dsrl.errors import SettingsError
from dsrl.plugins.files import import_file, name_module
from dsrl.plugins.specs import hookimpl
from dsrl.text import printable
from dsrl.toml_files import parse_toml, read_toml_text
from dsrl.types import Example

_ENDINGS = (".toml", ".py")
_PURPOSE = "task file"
#: Table -> key -> type of its value. The empty name stands for the keys outside of a table.
_KEYS: Mapping[str, Mapping[str, type]] = {
    "": {
        "description": str,
        "input_instruction": str,
        "output_instruction": str,
        "base_model": str,
        "domains": list,
        "answer": dict,
        "data": dict,
    },
    "answer": {"form": str, "choices": list},
    "data": {"test": str, "train": str, "input_columns": list, "output_column": str},
    "demos": {"input": str, "output": str, "domain": str},
}
_TYPE_NAMES: Mapping[type, str] = {str: "a text", list: "a list of texts", dict: "a table"}


def is_task_file(name: str) -> bool:
    """Return whether the name of a task is the path of a file."""
    return name.endswith(_ENDINGS)


class TaskFile:
    """The file of a task, as :func:`dsrl.plugins.discovery.find_plugin` finds it.

    Args:
        path: a TOML or Python file.

    Raises:
        SettingsError: there is no such file.

    Attributes:
        module: name of the module that holds the task's code.
        dist: None; a file belongs to no distribution.
    """

    dist = None

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise SettingsError(
                f"there is no task file {path}; an installed task is named without an ending (`dsrl tasks` lists them)"
            )
        self._path = path
        self.module = name_module(path, _PURPOSE) if path.endswith(".py") else __name__

    def load(self) -> FileTask | ModuleType:
        """Read the file."""
        return import_file(self._path, _PURPOSE) if self._path.endswith(".py") else FileTask(Path(self._path))


class FileTask:
    """A task that a TOML file describes; see the module for its form.

    Args:
        path: the file.

    Attributes:
        columns: the columns of its data.

    Raises:
        SettingsError: the file cannot be read, or something in it is wrong; the text names the line and what to do.
    """

    def __init__(self, path: Path) -> None:
        reader = _Reader(path)
        document = reader.document
        self._words = {key: " ".join(document.get(key, "").split()) for key in _KEYS[""] if _KEYS[""][key] is str}
        if not self._words["description"]:
            raise SettingsError(f'{path} has no description; add: description = "what the task is"')
        self._domains = tuple(document.get("domains", ()))
        self._answer_format = reader.read_answer_format()
        self._demos = reader.read_demos(self._domains)
        self._paths, self.columns = reader.read_data()

    @hookimpl
    def description(self) -> str:
        return self._words["description"]

    @hookimpl
    def input_instruction(self) -> str:
        return self._words["input_instruction"]

    @hookimpl
    def output_instruction(self) -> str | None:
        return self._words["output_instruction"] or None  # None: the usual one of the answer format

    @hookimpl
    def base_model(self) -> str | None:
        return self._words["base_model"] or None

    @hookimpl
    def answer_format(self) -> AnswerFormat:
        return self._answer_format

    @hookimpl
    def demos(self, domain: str) -> Sequence[Example]:
        return [demo for demo in self._demos if demo.domain == domain] if domain else self._demos

    @hookimpl
    def domains(self) -> Sequence[str]:
        return self._domains

    @hookimpl
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example] | None:
        path = path or self._paths.get(split, "")
        return read_dataset(path, split, self.columns.make_item) if path else None


class _Reader:
    """Reads the parts of a TOML file and refuses what is wrong in it, with its line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = read_toml_text(path, f"task file {path}")
        self.document = parse_toml(self._text, f"task file {path}")
        for key, value in self.document.items():
            if key != "demos":
                self._check(_KEYS[""], "", key, value, {*_KEYS[""], "demos"})
        for table in ("answer", "data"):
            for key, value in self.document.get(table, {}).items():
                self._check(_KEYS[table], table, key, value)

    def read_answer_format(self) -> AnswerFormat:
        table = self.document.get("answer")
        if not table or "form" not in table:
            raise SettingsError(
                f"{self._path} does not say where the answer stands in an output; add a table [answer] with form = "
                f'"tag" (or {", ".join(FORMS[1:])}) and perhaps choices = [...]'
            )
        form, choices = table["form"], tuple(table.get("choices", ()))
        if form not in FORMS:
            near = difflib.get_close_matches(form, FORMS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the forms are {', '.join(FORMS)}"
            raise self._refuse(f"form = {form!r} is no form of an answer; {hint}", "form", "answer")
        if form == "choice" and not choices:
            raise self._refuse("the form 'choice' needs choices = [...]", "form", "answer")
        return AnswerFormat(form, choices)

    def read_demos(self, domains: tuple[str, ...]) -> tuple[Example, ...]:
        demos = self.document.get("demos", [])
        if isinstance(demos, str):
            return tuple(read_demos(self._path.parent / demos, self.read_data()[1]))
        if not isinstance(demos, list) or not all(isinstance(demo, dict) for demo in demos):
            raise self._refuse("demos must be tables [[demos]] with input and output, or the path of a file", "demos")
        examples = []
        for number, demo in enumerate(demos, 1):
            for key, value in demo.items():
                self._check(_KEYS["demos"], "demos", key, value)
            if not demo.get("input") or not demo.get("output"):
                raise self._refuse(f"demonstration {number} needs input and output", "[[demos]]")
            if demo.get("domain", "") not in ("", *domains):
                raise self._refuse(
                    f"demonstration {number} has the domain {demo['domain']!r}, which is not one of domains", "domain"
                )
            examples.append(Example(demo["input"], demo["output"], demo.get("domain", "")))
        return tuple(examples)

    def read_data(self) -> tuple[Mapping[str, str], Columns]:
        """Return split -> file, folder or hub id; and the columns."""
        table = self.document.get("data", {})
        paths = {split: self._find(table[split]) for split in ("test", "train") if table.get(split)}
        return paths, Columns(tuple(table.get("input_columns", ())), table.get("output_column", ""))

    def _find(self, path: str) -> str:
        """Return a path as seen from the file; what is not there may be a hub id."""
        file = self._path.parent / Path(path).expanduser()
        return str(file) if file.exists() or path.startswith((".", "/", "~")) or Path(path).suffix else path

    def _check(self, keys: Mapping[str, type], table: str, key: str, value: Any, names: Iterable[str] = ()) -> None:
        if key not in keys:
            names = sorted(names or keys)
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys there are {', '.join(names)}"
            place = f"[{table}] has" if table else "there is"
            raise self._refuse(f"{place} no key {key[:60]!r}; {hint}", key)
        kind = keys[key]
        is_right = isinstance(value, kind)
        if kind is list:
            is_right = isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value)
        if not is_right:
            raise self._refuse(f"{key} must be {_TYPE_NAMES[kind]}", key)

    def _refuse(self, text: str, key: str, table: str = "") -> SettingsError:
        return SettingsError(f"{self._path}{self._locate(key, table)}: {printable(text)}")

    def _locate(self, key: str, table: str) -> str:
        """Return ``:LINE`` of the first place of a key, after the head of its table; empty if it is not found."""
        lines = self._text.splitlines()
        head = f"[{table}]"
        start = next((n for n, line in enumerate(lines) if table and line.strip() == head), 0)
        pattern = re.compile(rf"\s*\[*[\"']?{re.escape(key)}[\"']?\s*[\]=.]" if "[" not in key else re.escape(key))
        numbers = (n for n, line in enumerate(lines[start:], start + 1) if pattern.match(line))
        number = next(numbers, 0)
        return f":{number}" if number else ""
