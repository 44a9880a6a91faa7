"""The files of a new package, and how they are written: all of them or none."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dsrl.errors import SettingsError
from dsrl.plugins.specs import KINDS
from dsrl.scaffold.names import Names
from dsrl.storage.files import write_folder

#: Kinds of plugins that need code; a base model is a folder of weights.
SCAFFOLD_KINDS = tuple(kind.name for kind in KINDS.values() if kind.spec is not None)
#: Licences that ``dsrl new`` can write -> the file of the text.
LICENCES = {"MIT": "MIT.txt", "Apache-2.0": "Apache-2.0.txt"}

#: Path in the package -> text.
Files = dict[str, str]

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_FILES = _HERE / "files"


def make_package(names: Names, licence: str = "") -> Files:
    """Return the files of a package with a plugin that works: the example of its kind, under the new name.

    Args:
        names: the names of the plugin.
        licence: one of :data:`LICENCES`; empty for none.
    """
    return add_common_files(copy_example(names), names, licence)


def copy_example(names: Names) -> Files:
    """Return the files of the example of a kind, with the names of a new plugin in place of its own."""
    folder = find_examples() / names.kind
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((old,),) = project["entry-points"].values()
    example = Names(names.kind, old)

    def rename(text: str) -> str:
        for before, after in (
            (example.plugin, names.plugin),
            (example.dashed, names.dashed),
            (example.camel, names.camel),
        ):
            text = text.replace(before, after)
        return text

    return {
        rename(path.relative_to(folder).as_posix()): rename(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _is_source(path.relative_to(folder))
    }


def add_common_files(files: Mapping[str, str], names: Names, licence: str = "") -> Files:
    """Return the files of a package, with what every package has: settings of tools, a CI file, perhaps a licence."""
    project = files["pyproject.toml"]
    (requirement,) = (
        r for r in tomllib.loads(project)["project"]["dependencies"] if r.startswith("data-synthesis-rl>=")
    )
    values = {
        "$RANGE": requirement.removeprefix("data-synthesis-rl>="),
        "$MODULE": names.module,
        "$NAME": names.plugin,
        "$DISTRIBUTION": names.distribution,
        "$YEAR": str(datetime.now(UTC).year),
    }
    if licence:
        mark = "requires-python"
        project = project.replace(mark, f'license = "{licence}"\n{mark}', 1)
    common = {
        "pyproject.toml": project + _read("tools.toml"),
        ".gitignore": _read("gitignore"),
        ".github/workflows/test.yml": _fill(_read("test.yml"), values),
    }
    if licence:
        common["LICENSE"] = _fill(_read(LICENCES[licence]), values)
    return {**files, **common}


def write_package(files: Mapping[str, str], folder: Path) -> None:
    """Write a package into a new folder. The folder appears with all its files, or not at all.

    Raises:
        SettingsError: the folder exists and is not empty, or it is a file.
    """
    refuse_used_folder(folder)
    write_folder(files, folder)


def refuse_used_folder(folder: Path) -> None:
    """Refuse a folder in which something would be overwritten.

    Raises:
        SettingsError: the folder exists and is not empty, or it is a file.
    """
    if folder.is_dir() and not folder.is_symlink():
        if any(folder.iterdir()):
            raise SettingsError(f"the folder {folder} exists and is not empty; give another one with --folder")
    elif folder.exists() or folder.is_symlink():
        raise SettingsError(f"{folder} exists and is not a folder; give another one with --folder")


def find_examples() -> Path:
    """Return the folder of the examples: in a wheel it lies beside this module, in a checkout at the top."""
    packaged = _HERE / "examples"
    return packaged if packaged.is_dir() else _ROOT / "examples"


def _is_source(path: Path) -> bool:
    """Return whether a file of an example belongs to it, and was not left behind by a tool."""
    return not any(part.startswith((".", "__pycache__")) or part.endswith(".egg-info") for part in path.parts)


def _read(name: str) -> str:
    path = _FILES / name
    if name == "Apache-2.0.txt" and not path.is_file():
        path = _ROOT / "LICENSE"  # a checkout; a wheel holds a copy of it
    return path.read_text(encoding="utf-8")


def _fill(text: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def list_commands(names: Names, folder: Path, *, is_runnable: bool) -> Iterable[str]:
    """Yield the commands that a user needs next.

    Args:
        names: the names of the plugin.
        folder: the folder of the package.
        is_runnable: whether a new task runs on the embedded defaults.
    """
    import shlex

    place = shlex.quote(f"./{folder}" if not folder.is_absolute() else str(folder))
    yield f"pip install -e {place}"
    yield f"pytest {place}"
    if names.kind == "task":
        yield f"dsrl tasks show {names.plugin}"
        small = " --samples 100 --select 100" if is_runnable else " --teacher openai:gpt-4o-mini --dataset-path TEST"
        yield f"dsrl {'run' if is_runnable else 'plan'} --task {names.plugin}{small}"
    else:
        yield f"dsrl plugins check {names.plugin}"
        if names.kind == "retriever":
            yield f"dsrl run --task mednli --retriever {names.plugin} --corpus passages.jsonl"
        elif names.kind == "teacher":
            yield f"dsrl run --task mednli --teacher {names.plugin} --teacher-option 'command=\"ollama run llama3.2\"'"
        else:
            yield f"dsrl run --task mednli --{names.kind} {names.plugin}"
