from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
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
#: A whole run with a paid teacher.
PAID_RUN = (
    "run --task mednli --name checked --samples 4 --votes 2 --attempts 4 --select 4 --epochs 1 --batch-size 4 "
    "--group-size 4 --test-size 8 --concurrency 4 --teacher openai:gpt-4o"
).split()


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


@pytest.fixture
def command(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    """A whole run with a paid teacher."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return (*PAID_RUN, "--teacher-option", f"base_url={server.url}")


@pytest.fixture
def refused(dsrl: Any, server: FaultServer, command: Sequence[str], tmp_path: Path) -> Callable[..., None]:
    """Run the command with more flags. It must fail with a sentence, leave no file, and send no request."""

    def run(*flags: object, words: Sequence[str], code: int = 1) -> None:
        before = sorted(tmp_path.rglob("*"))
        outcome = dsrl(*command, *flags)
        assert outcome.code == code, outcome.err
        _, found, sentence = f"\n{outcome.err}".rpartition("\nError: ")
        assert found, outcome.err
        for word in words:
            assert word in " ".join(sentence.split()), (word, sentence)
        assert server.requests == [], "somebody was paid"
        assert sorted(tmp_path.rglob("*")) == before, "something was left behind"

    return run
