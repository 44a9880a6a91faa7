"""The package of an exported task: its names and values, its files, and how they are written."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import dsrl
from dsrl.datasets import DATA_FILES
from dsrl.errors import DataError, SettingsError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TaskSpec
from dsrl.plugins.task_files import is_task_file
from dsrl.storage.files import write_folder

_TEMPLATES = Path(__file__).parent / "files"
_LONGEST_SLUG = 60

#: Path in the package -> text.
Files = dict[str, str]


@dataclass(frozen=True, slots=True)
class ExportedTask:
    """What a package of an exported task is made from.

    Attributes:
        task: the bound task; its reference names the options.
        dataset_path: where the package reads its items; empty for the task's own data.
    """

    task: Plugin[TaskSpec]
    dataset_path: str = ""

    @property
    def module(self) -> str:
        """The name of the package to import, e.g. ``dsrl_mednli_env``."""
        slug = re.sub(r"[^a-z0-9]+", "_", self.task.name.lower()).strip("_")[:_LONGEST_SLUG].strip("_")
        return f"dsrl_{slug or 'task'}_env"

    @property
    def distribution(self) -> str:
        """The name that pip uses, e.g. ``dsrl-mednli-env``."""
        return self.module.replace("_", "-")

    @property
    def has_data(self) -> bool:
        """Whether the package knows where its items are."""
        return bool(self.dataset_path or self.task.implementations("load_dataset"))


def describe_task(task: Plugin[TaskSpec], dataset_path: str = "") -> ExportedTask:
    """Check that a task can be written into a package.

    Args:
        task: the bound task.
        dataset_path: a file, a folder or a hub id; empty for the task's own data. A local path is made absolute.

    Raises:
        SettingsError: an option of the task cannot be written as Python text, the task has override files, or it is judged.
        DataError: the data set is a file that does not exist.
    """
    if is_task_file(task.name):
        raise SettingsError(
            f"the task {task.name} is a file, which a package cannot name; `dsrl new task` makes a package of its own"
        )
    if task.ref.overrides:
        raise SettingsError("override files are not part of a package; write their hooks into a task of your own")
    if task.hook.rubric():
        raise SettingsError(
            f"the task {task.name!r} is judged: its reward comes from a teacher through dsrl's ledger, which a package for "
            "another library cannot reach, so it is not exported"
        )
    try:
        is_literal = ast.literal_eval(repr(dict(task.ref.options))) == dict(task.ref.options)
    except (ValueError, SyntaxError, RecursionError):
        is_literal = False
    if not is_literal:
        raise SettingsError(
            f"the options of {task.name!r} hold a value that is no text, number, list or table, and that cannot be "
            f"written into a package: {dict(task.ref.options)!r}"[:500]
        )
    path = Path(dataset_path)
    if dataset_path and path.exists():
        dataset_path = str(path.absolute())
    elif dataset_path.lower().endswith(DATA_FILES):
        raise DataError(f"data set {dataset_path} does not exist")
    return ExportedTask(task, dataset_path)


def make_verifiers_package(exported: ExportedTask) -> Files:
    """Return the files of an environment for the library ``verifiers``: a taskset whose reward is that of the task."""
    task = exported.task
    values = {
        "TASK": task.name,
        "TASK_LITERAL": repr(task.name),
        "OPTIONS_LITERAL": repr(dict(task.ref.options)),
        "DATASET_LITERAL": repr(exported.dataset_path),
        "MODULE": exported.module,
        "DISTRIBUTION": exported.distribution,
        "REQUIREMENTS": "".join(f"    {json.dumps(r)},\n" for r in _list_requirements(task)).rstrip("\n"),
        "DESCRIPTION_LITERAL": repr(task.hook.description()),
        "DESCRIPTION": _quote_lines(task.hook.description()),
        "DATA": _describe_data(exported),
        "OPTIONS": _describe_options(task),
    }
    return {
        "pyproject.toml": _fill("verifiers/pyproject.toml.txt", values),
        "README.md": _fill("verifiers/README.md.txt", values),
        f"{exported.module}/__init__.py": _fill("verifiers/init.py.txt", values),
        f"{exported.module}/taskset.py": _fill("verifiers/taskset.py.txt", values),
        f"{exported.module}/py.typed": "",
        "tests/test_taskset.py": _fill("verifiers/test_taskset.py.txt", values),
    }


#: Library that a task can be exported to -> what makes the files of the package.
EXPORTERS: Mapping[str, Callable[[ExportedTask], Files]] = {"verifiers": make_verifiers_package}


def get_exporter(library: str) -> Callable[[ExportedTask], Files]:
    """Return what makes the package for a library.

    Raises:
        SettingsError: tasks cannot be exported to this library; the text names those that they can be exported to.
    """
    if library not in EXPORTERS:
        raise SettingsError(
            f"--to {library[:100]}: a task can be exported to {', '.join(EXPORTERS)}, and to nothing else"
        )
    return EXPORTERS[library]


def write_package(files: Mapping[str, str], folder: Path) -> None:
    """Write a package into a new folder. The folder appears with all its files, or not at all.

    Raises:
        SettingsError: the folder exists and is not empty, it is a file, or it cannot be written.
    """
    if (folder.is_dir() and any(folder.iterdir())) or (folder.exists() and not folder.is_dir()) or folder.is_symlink():
        raise SettingsError(f"{folder} exists and is not an empty folder; give another one with --out")
    try:
        write_folder(files, folder)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror}; give another folder with --out") from error


def _list_requirements(task: Plugin[TaskSpec]) -> list[str]:
    """List what the package needs: this dsrl, the distribution of the task, and the library."""
    major, minor = dsrl.__version__.split(".")[:2]
    requirements = [f"data-synthesis-rl>={dsrl.__version__},<{major}.{int(minor) + 1}"]
    if task.version:
        requirements.append(f"{task.distribution}>={task.version}")
    return [*requirements, "verifiers>=0.4,<0.5"]


def _describe_data(exported: ExportedTask) -> str:
    """Return the sentences of the README on where the items are, and on their licence."""
    task = exported.task
    if exported.dataset_path:
        is_local = Path(exported.dataset_path).is_absolute()
        text = f"The items are read from `{exported.dataset_path}`"
        text += ", a path of the machine on which this package was written." if is_local else "."
    elif exported.has_data:
        text = "The items are those that the task has of its own (`dsrl tasks show` describes them)."
    else:
        text = "The task has no data set of its own: `dataset_path` must be set."
    if task.implements("dataset_info") and (info := task.hook.dataset_info()):
        text += f" The usual data set of the task is {info.id or info.url}; its licence: {info.license}."
    return text


def _describe_options(task: Plugin[TaskSpec]) -> str:
    options = ", ".join(f"`{name}={value!r}`" for name, value in sorted(task.ref.options.items()))
    return f"The task has these options: {options}." if options else "The task has no options."


def _quote_lines(text: str) -> str:
    """Return a text as a quotation in Markdown."""
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _fill(name: str, values: Mapping[str, str]) -> str:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8")).substitute(values)
