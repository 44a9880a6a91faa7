from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from dsrl.cli import main
from dsrl.testing.fault_server import FaultServer


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Dsrl = Callable[..., Outcome]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A provider whose model writes and answers samples of the task mednli."""
    numbers = count()

    def text(body: Any) -> str | None:
        if "JSON object" in json.dumps(body):
            premise = f"Premise: The patient of bed {next(numbers)} has a fever. Hypothesis: The patient is ill."
            return json.dumps({"input": premise, "output": "<think> Fever. </think> <answer> entailment </answer>"})
        return "<think> Fever. </think> <answer> entailment </answer>"

    with FaultServer() as running:
        running.text = text
        yield running


@pytest.fixture
def dsrl(tmp_path, monkeypatch, capfd) -> Dsrl:
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Outcome:
        capfd.readouterr()
        code: object = 0
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capfd.readouterr()
        assert isinstance(code, int)
        assert "Traceback" not in err
        return Outcome(code, out, err)

    return run


@pytest.fixture
def small() -> Sequence[str]:
    """The arguments of a run that takes a few seconds."""
    return (
        "run --task mednli --name small --samples 24 --select 16 --attempts 8 --votes 4 --epochs 1 "
        "--batch-size 8 --group-size 4 --test-size 30 "
    ).split()
