"""Each distribution declares what its code imports, and which versions of dsrl it works with."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = [
    ROOT,
    *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml")),
    *sorted(path.parent for path in ROOT.glob("examples/*/pyproject.toml")),
    ROOT / "contrib_tasks",
]
#: Extras that users do not install.
FOR_DEVELOPERS = {"dev", "test"}


def project_of(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {normalised(re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]) for requirement in requirements}


def imported(folder: Path, packages: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Give (module, file:line, whether it is imported with the file) of every import of another package."""
    for package in packages:
        for file in (folder / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                found: list[str] = []
                if isinstance(node, ast.Import):
                    found = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found = [str(node.module)]
                for name in found:
                    top = name.partition(".")[0]
                    if top not in sys.stdlib_module_names and top not in packages:
                        # The test kit of the core has an extra of its own.
                        at_once = node in tree.body and folder / "dsrl" / "testing" not in file.parents
                        yield top, f"{file.relative_to(ROOT)}:{node.lineno}", at_once


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: project_of(folder)["project"]["name"])
def test_what_is_imported_is_declared(folder: Path) -> None:
    project = project_of(folder)
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    always = names(project["project"]["dependencies"])
    extras = project["project"].get("optional-dependencies", {})
    wanted = always.union(*(names(extras[extra]) for extra in extras.keys() - FOR_DEVELOPERS))
    # pyjnius is not in the default environment.
    owners = packages_distributions() | {
        "dsrl": ["data-synthesis-rl"],
        "jnius": ["pyjnius"],
        "jnius_config": ["pyjnius"],
    }
    found = list(imported(folder, packages))
    missing = [
        f"{place} imports {module}"
        for module, place, at_once in found
        if not {normalised(owner) for owner in owners.get(module, [module])} & (always if at_once else wanted)
    ]
    assert not missing


@pytest.mark.parametrize("folder", PROJECTS[1:], ids=lambda folder: project_of(folder)["project"]["name"])
def test_a_plugin_says_which_versions_of_dsrl_it_works_with(folder: Path) -> None:
    major, minor, _ = map(int, project_of(ROOT)["project"]["version"].split("."))
    requirements = [r for r in project_of(folder)["project"]["dependencies"] if r.startswith("data-synthesis-rl")]
    assert [re.sub(r"\[\w+\]", "", r) for r in requirements] == [
        f"data-synthesis-rl>={major}.{minor},<{major}.{minor + 1}"
    ]


def test_every_target_of_make_that_is_named_has_a_rule() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY:(.*)$", text, re.MULTILINE)
    assert phony is not None
    assert [name for name in phony[1].split() if not re.search(rf"^{name}:", text, re.MULTILINE)] == []
