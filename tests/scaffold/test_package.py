"""New packages: the examples under other names, complete and clean, and written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dsrl.errors import SettingsError
from dsrl.plugins.specs import KINDS
from dsrl.scaffold.names import LONGEST_NAME, Names
from dsrl.scaffold.package import LICENCES, SCAFFOLD_KINDS, find_examples, list_commands, make_package, write_package

LONG = "a_name_that_is_as_long_as_it_can"


@pytest.mark.parametrize("kind", SCAFFOLD_KINDS)
def test_a_package_has_every_part_and_no_trace_of_the_example(kind: str) -> None:
    names = Names(kind, "my_own")
    files = make_package(names)
    assert {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        ".github/workflows/test.yml",
        "dsrl_my_own/__init__.py",
        "dsrl_my_own/py.typed",
        "tests/test_my_own.py",
    } == set(files)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == "dsrl-my-own"
    assert project["dependencies"][0].startswith("data-synthesis-rl>=")
    assert list(project["entry-points"]) == [KINDS[kind].group]
    assert list(project["entry-points"][KINDS[kind].group]) == ["my_own"]
    example = tomllib.loads((find_examples() / kind / "pyproject.toml").read_text("utf-8"))["project"]
    ((old,),) = example["entry-points"].values()
    text = "\n".join([*files, *files.values()])
    for trace in (old, Names(kind, old).dashed, Names(kind, old).camel, "$"):
        assert trace not in text.replace("${{", "").replace('"$DSRL_', ""), trace
    assert "dsrl plugins check my_own" in files[".github/workflows/test.yml"]


def test_all_kinds_that_need_code_have_an_example() -> None:
    assert set(SCAFFOLD_KINDS) == KINDS.keys() - {"model"}
    assert all((find_examples() / kind / "pyproject.toml").is_file() for kind in SCAFFOLD_KINDS)


@pytest.mark.parametrize("licence", LICENCES)
def test_a_licence_is_written_and_declared(licence: str) -> None:
    files = make_package(Names("task", "mine"), licence)
    assert tomllib.loads(files["pyproject.toml"])["project"]["license"] == licence
    assert len(files["LICENSE"]) > 1000
    assert "LICENSE" not in make_package(Names("task", "mine"))


def test_packages_are_clean_whatever_the_length_of_their_names(tmp_path: Path) -> None:
    assert len(LONG) == LONGEST_NAME
    for kind in SCAFFOLD_KINDS:
        for name in ("q", LONG):
            write_package(make_package(Names(kind, name)), tmp_path / f"{kind}-{name}")
    for command in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    write_package({"a/b.txt": "1"}, folder)  # An empty folder is used.
    with pytest.raises(SettingsError, match="is not empty; give another one with --folder"):
        write_package({"c.txt": "2"}, folder)
    assert [path.name for path in folder.iterdir()] == ["a"]
    with pytest.raises(SettingsError, match="is not a folder"):
        write_package({"c.txt": "2"}, folder / "a/b.txt")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="is not a folder"):
        write_package({"c.txt": "2"}, tmp_path / "link")


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def interrupt(path: Path, *args: object, **options: object) -> int:
        if path.name == "b.txt":
            raise KeyboardInterrupt
        return write(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_package({"a.txt": "1", "b.txt": "2"}, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    write_package({"a.txt": "1"}, tmp_path / "new")
    assert os.stat(tmp_path / "new").st_mode == os.stat(tmp_path / "usual").st_mode


def test_the_next_commands_quote_the_folder() -> None:
    commands = list(list_commands(Names("task", "mine"), Path("my folder"), is_runnable=True))
    assert commands[0] == "pip install -e './my folder'"
    assert commands[-1].startswith("dsrl run --task mine")
