"""The Python API: the same run as the command line's, also where an event loop is already running."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import dsrl
from dsrl.api import SettingArguments
from dsrl.errors import PluginError, SettingsError
from dsrl.pipeline.progress import SilentProgress
from dsrl.settings import Settings

SMALL: dict[str, Any] = {"task": "mednli", "name": "small", "samples": 8, "votes": 2, "stop_after": "verified"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_keyword_arguments_are_the_settings() -> None:
    expected = {
        name: Sequence[str] if value_type == tuple[str, ...] else value_type
        for name, value_type in get_type_hints(Settings).items()
    }
    assert get_type_hints(SettingArguments) == expected
    assert list(SettingArguments.__annotations__) == [setting.name for setting in fields(Settings)]


def test_a_result_is_the_object_that_the_command_line_prints() -> None:
    result = dsrl.run(**SMALL, progress="none")
    assert result.run == "small"
    assert result.samples["verified"] == 8
    assert result.spending[0].purpose == "keywords"
    command = [sys.executable, "-m", "dsrl", "run", "--task", "mednli", "--name", "small", "--samples", "8"]
    command += ["--votes", "2", "--stop-after", "verified", "--json"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    expected = json.loads(json.dumps(asdict(result)))
    for values in (printed, expected):
        del values["seconds"]
    assert printed == expected


def test_the_page_of_the_json_object_names_every_field() -> None:
    page = (Path(__file__).parents[1] / "docs/runs.md").read_text(encoding="utf-8")
    for field in fields(dsrl.RunResult):
        assert f"`{field.name}`" in page, field.name


def test_a_plan_has_typed_ranges() -> None:
    plan = dsrl.plan(task="mednli", samples=100, budget=2.0)
    assert [stage.stage for stage in plan.stages][:2] == ["keywords", "initial"]
    assert plan.total.calls.low <= plan.total.calls.expected <= plan.total.calls.high
    assert plan.total.dollars is not None
    assert plan.budget_usd == 2.0
    assert not Path("runs").exists()
    assert dsrl.plan(task="mednli", name="small", samples=8, probe=2, progress="none").run == "small"
    assert Path("runs/small").exists()


def test_a_whole_run_in_a_running_event_loop() -> None:
    """As in a notebook."""

    async def run_cell() -> dsrl.RunResult:
        small: dict[str, Any] = {"samples": 12, "select": 8, "attempts": 4, "votes": 2, "epochs": 1, "test_size": 8}
        return dsrl.run(task="mednli", name="whole", batch_size=8, group_size=4, progress="lines", **small)

    result = asyncio.run(run_cell())
    assert result.model_path is not None
    assert Path(result.model_path, "config.json").is_file()
    assert result.trained_accuracy is not None
    assert isinstance(result.gain_ci95, tuple)


def test_lists_paths_and_a_settings_file_are_taken(folder: Path) -> None:
    (folder / "my.toml").write_text('[task]\ntask = "mednli"\n[synthesis]\nsamples = 5\n[teacher]\nbudget = 1.0\n')
    result = dsrl.run(
        config=folder / "my.toml",
        runs_dir=folder / "elsewhere",
        name="small",
        domain=["fever", "asthma"],
        teacher_temperature=1,
        budget=None,
        stop_after="initial",
        progress="none",
    )
    assert (folder / "elsewhere/small/run.toml").is_file()
    assert result.samples["initial"] == 5
    assert result.budget_usd is None, "a keyword argument is stronger than the settings file"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"vots": 3}, "there is no setting 'vots'; did you mean 'votes'?"),
        ({"votes": "3"}, "votes is '3', but must be a whole number"),
        ({"votes": None}, "votes is None, but must be a whole number"),
        ({"votes": -1}, "--votes is -1, but must be at least 0"),
        ({"domain": 3}, "domain is 3, but must be a list of texts"),
        ({"teacher_option": {"api_key": "sk-proj-1234567890abcdefghij"}}, "--teacher-option"),
        ({"stop_after": "end"}, "stop_after is 'end', but must be one of keywords, "),
        ({"progress": "loud"}, "progress is 'loud', but must be auto, lines, none or a progress object"),
        ({"task": ""}, "no task is named"),
        ({"config": "no.toml"}, "settings file no.toml does not exist"),
    ],
)
def test_a_wrong_argument_is_an_error_with_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        dsrl.run(**{"task": "mednli", **arguments})
    assert sentence in str(caught.value)
    assert not Path("runs").exists()


def test_an_error_of_a_run_reaches_the_caller_in_a_running_loop_too() -> None:
    async def run_cell() -> None:
        dsrl.run(task="mednli", teacher="nobody")

    with pytest.raises(PluginError, match="no teacher 'nobody' is installed"):
        asyncio.run(run_cell())


def test_progress_is_shown_as_the_user_wants(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    class Notebook(SilentProgress):
        def __init__(self) -> None:
            self.stages: list[str] = []

        def finish(self, stage: str, *outcome: Any, **more: Any) -> None:
            self.stages.append(stage)

    dsrl.run(**{**SMALL, "stop_after": "keywords"}, progress="none")
    assert capsys.readouterr() == ("", "")
    own = Notebook()
    dsrl.run(**{**SMALL, "stop_after": "passages"}, progress=own)
    assert own.stages == ["passages"]
    dsrl.run(**{**SMALL, "stop_after": "initial"})
    assert "initial 8/8" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", None)
    dsrl.run(**SMALL)


NOTEBOOK = """
import asyncio, time, dsrl

async def run_cell():
    dsrl.run(task="mednli", name="small", samples=200, override=OVERRIDE, teacher_option=OPTION, concurrency=4)

try:
    asyncio.run(run_cell())
except KeyboardInterrupt as stop:
    print(type(stop).__name__, *stop.__notes__)
"""
BUSY = """
import time
from dsrl import hookimpl

@hookimpl
def process_prediction(output):
    open("busy", "w").close()
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("place", ["calls in flight", "work in a thread"])
def test_the_stop_button_of_a_notebook_stops_a_run(folder: Path, place: str) -> None:
    """A signal arrives in the main thread, and the run is in another one."""
    (folder / "busy.py").write_text(BUSY)
    is_busy = place == "work in a thread"
    source = NOTEBOOK.replace("OVERRIDE", "['busy.py']" if is_busy else "[]")
    source = source.replace("OPTION", "{'wait': 0}" if is_busy else "{'wait': 0.3}")
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        started = folder / ("busy" if is_busy else ".dsrl/calls.db")
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out == "Interrupted Everything that was done is kept in runs/small.\n"
