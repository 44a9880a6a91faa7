"""The page on the architecture describes the code as it is."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
#: A file and the names in it that a step of the page leads to: `file.py`, `name`, `Class.method`
STEP = re.compile(r"`([\w./-]+\.py)`,\s+((?:`[\w.]+`(?:,\s+)?)+)")


def list_tree() -> list[str]:
    """Return the paths in the tree of the page."""
    block = PAGE.split("## The tree")[1].split("```")[1]
    folders: list[str] = []
    paths = []
    for line in block.strip().splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name]
        paths.append("".join(folders))
    return paths


def list_modules(folder: Path) -> set[str]:
    """Return the modules and packages of a folder as paths from the root of the repository."""
    return {
        f"{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}"
        for path in folder.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }


@pytest.mark.parametrize("path", list_tree())
def test_the_tree_names_what_exists(path: str) -> None:
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def test_the_tree_names_every_room_and_its_modules() -> None:
    tree = set(list_tree())
    rooms = list_modules(ROOT / "dsrl")
    assert rooms <= tree
    for room in rooms:
        if (ROOT / room).is_dir():
            assert {path for path in list_modules(ROOT / room) if not path.endswith("__init__.py")} <= tree


def test_the_diagram_names_every_room() -> None:
    diagram = PAGE.split("```mermaid")[1].split("```")[0]
    rooms = {Path(path).stem for path in list_modules(ROOT / "dsrl")} - {"__init__", "__main__", "testing"}
    assert rooms <= set(re.findall(r"\w+", diagram))


def test_the_arrows_of_the_diagram_point_down() -> None:
    """The layers of the import contract in pyproject.toml are the order of the rooms."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(c["layers"] for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    level = {room: n for n, layer in enumerate(layers) for room in re.findall(r"dsrl\.(\w+)", layer)}
    diagram = PAGE.split("```mermaid")[1].split("```")[0]
    for line in diagram.splitlines():
        rooms = line.strip().split(" --> ")
        assert all(level[above] < level[below] for above, below in pairwise(rooms)), line


def test_files_in_the_text_exist() -> None:
    for path in re.findall(r"`((?:dsrl|plugins|contrib_tasks)/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_steps_lead_to_functions_and_classes() -> None:
    steps = STEP.findall(PAGE)
    assert len(steps) > 30
    for path, names in steps:
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            for part in name.split("."):
                assert re.search(rf"^\s*(?:class|def|async def) {part}\b", text, re.MULTILINE), f"{path}: {name}"


def test_the_glossary_is_sorted() -> None:
    words = re.findall(r"^\| ([\w -]+) \|", PAGE.split("## Glossary")[1], re.MULTILINE)[1:]
    assert [word for word in words if word != "---"] == sorted(word for word in words if word != "---")
