from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dsrl.pipeline.setting_paths import keep_paths, read_file_paths, read_kept_paths
from dsrl.settings import Settings, resolve

INDEXES = Path(".dsrl/index")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with files, the folder of a run, and another folder to work in."""
    for folder in (
        "project/runs/one/data",
        "project/handbook",
        "project/org/model",
        "other",
        "project/.dsrl/index/named",
    ):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("demos.csv", "task.toml", "hooks.py"):
        (tmp_path / "project" / name).touch()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def read(settings: Settings, folder: Path) -> Settings:
    return resolve(read_kept_paths({s.name: getattr(settings, s.name) for s in fields(Settings)}, folder))


def test_kept_paths_hold_from_every_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {
        "task": "task.toml",
        "demos": "demos.csv",
        "override": ("./hooks.py",),
        "corpus": ("handbook", "hub/texts"),
        "base_model": "org/model",
        "output_model": "later/model",
        "dataset_path": str(project / "absolute.csv"),
    }
    settings = resolve(given)
    kept = keep_paths(settings, project / "runs/one", INDEXES)
    assert kept.task == ("../../task.toml",)
    assert kept.corpus == ("../../handbook", "hub/texts")
    assert kept.dataset_path == (str(project / "absolute.csv"),)
    again = read(kept, project / "runs/one")
    assert keep_paths(again, project, INDEXES) == keep_paths(settings, project, INDEXES)
    assert again.demos == ("demos.csv",)
    assert again.corpus[0] == "./handbook"  # the bare name could be that of an index
    monkeypatch.chdir(project.parent / "other")
    elsewhere = read(kept, project / "runs/one")
    assert Path(elsewhere.demos[0]).samefile(project / "demos.csv")
    assert Path(elsewhere.base_model).samefile(project / "org/model")
    assert Path(elsewhere.output_model).absolute() != project / "later/model"
    assert Path(elsewhere.output_model).resolve() == project / "later/model"


def test_a_project_that_is_moved_keeps_its_paths(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_paths(resolve({"task": "mednli", "demos": "demos.csv"}), project / "runs/one", INDEXES)
    shutil.move(project, project.with_name("moved"))
    monkeypatch.chdir(project.with_name("moved"))
    assert read(kept, Path("runs/one")).demos == ("demos.csv",)


def test_names_are_no_paths() -> None:
    Path("named").mkdir()  # beside the index of this name
    Path("tiny").mkdir()
    Path("mednli").mkdir()
    settings = resolve({"task": "mednli", "corpus": ("named",), "base_model": "tiny", "demos": "org/unknown"})
    assert keep_paths(settings, Path("runs/one"), INDEXES) == settings


def test_paths_of_several_tasks_hold_from_every_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = resolve({"task": ("./task.toml", "gsm8k"), "demos": ("./task.toml=demos.csv", "gsm8k=demos.csv")})
    kept = keep_paths(settings, project / "runs/one", INDEXES)
    assert kept.task == ("../../task.toml", "gsm8k")
    assert kept.demos == ("task.toml=../../demos.csv", "gsm8k=../../demos.csv")
    monkeypatch.chdir(project.parent / "other")
    again = read(kept, project / "runs/one")
    assert again.task == ("../project/task.toml", "gsm8k")
    assert again.demos == ("task.toml=../project/demos.csv", "gsm8k=../project/demos.csv")
    found = read_file_paths({"task": ["task.toml", "math"], "demos": ["task.toml=demos.csv"]}, project / "run.toml")
    assert found == {"task": ("../project/task.toml", "math"), "demos": ("task.toml=../project/demos.csv",)}


def test_paths_of_a_settings_file_belong_to_its_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"task": "task.toml", "demos": "demos.csv", "dataset_path": "here.csv", "corpus": ("handbook",)}
    monkeypatch.chdir(project.parent / "other")
    Path("here.csv").touch()
    found = read_file_paths(values, project / "run.toml")
    assert found == {**values, "task": "../project/task.toml", "demos": "../project/demos.csv"}
    # Beside the file of a run, names are those that somebody typed elsewhere: "data" is none of the folders of the run.
    (project / "runs/one/run.db").touch()
    found = read_file_paths({"task": "mednli", "dataset_path": "data"}, project / "runs/one/run.toml")
    assert found["dataset_path"] == "data"
