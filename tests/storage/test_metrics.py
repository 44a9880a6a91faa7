"""``metrics.jsonl``, killed and damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dsrl.errors import StoreError
from dsrl.storage.metrics import Metrics

LINES = [{"round": 1, "step": 1}, {"round": 1, "step": 2}, {"round": 2, "step": 1}]


def write_three_steps(path: Path, tail: str = "") -> bytes:
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES) + tail, encoding="utf-8")
    return path.read_bytes()


def steps(path: Path) -> list[tuple[int, int]]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(record["round"], record["step"]) for record in records]


def test_metrics_are_written_a_step_a_line_and_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path)
    assert not path.exists()
    first.add(1, 1, {"reward": 0.1})
    first.add(1, 1, {"reward": 0.2})
    first.add(1, 2, {"reward": 0.3})
    lines = path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"round": 1, "step": 1, "reward": 0.1},
        {"round": 1, "step": 2, "reward": 0.3},
    ]
    path.write_text(lines + '{"round": 2, "st', encoding="utf-8")  # killed in the middle of a line
    second = Metrics(path)
    second.add(1, 2, {"reward": 0.3})
    second.add(2, 1, {"reward": 0.4})
    again = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(record["round"], record["step"]) for record in again] == [(1, 1), (1, 2), (2, 1)]


def test_metrics_killed_in_the_first_line_start_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round"', encoding="utf-8")
    Metrics(path).add(1, 1, {})
    assert json.loads(path.read_text(encoding="utf-8")) == {"round": 1, "step": 1}


# Kills itself when a file of metrics has been opened to be written again, or when the new file is about to be renamed.
KILLED = """
import os, signal, sys
from pathlib import Path
from dsrl.storage.metrics import Metrics

path = Path(sys.argv[1])

def watch(event, args):
    if event == "open" and sys.argv[3] == "open" and args[2] & os.O_TRUNC and str(args[0]).startswith(str(path)):
        if os.path.exists(args[0]):
            os.truncate(args[0], 0)
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "os.rename" and sys.argv[3] == "rename":
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
metrics = Metrics(path)
if sys.argv[2] == "forget":
    metrics.forget(2)
"""


@pytest.mark.parametrize("where", ["open", "rename"])
@pytest.mark.parametrize("what", ["forget", "repair"])
def test_a_kill_while_lines_are_removed_loses_no_whole_line(tmp_path: Path, what: str, where: str) -> None:
    path = tmp_path / "metrics.jsonl"
    before = write_three_steps(path, '{"round": 2, "st' if what == "repair" else "")
    command = [sys.executable, "-c", KILLED, str(path), what, where]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.read_bytes() == before
    again = Metrics(path)
    assert steps(path) == [(1, 1), (1, 2), (2, 1)]
    again.forget(2)
    assert steps(path) == [(1, 1), (1, 2)]


def test_a_failure_to_replace_the_file_leaves_it_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    before = write_three_steps(path)

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError):
        Metrics(path).forget(1)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "bad",
    [
        b"not json",
        b"[1, 2]",
        b'{"round": 1}',
        b'"text"',
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"round": "1", "step": []}',
    ],
    ids=lambda bad: repr(bad[:12]),
)
def test_a_bad_line_in_the_middle_is_named_passed_over_and_kept(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    first, second, third = write_three_steps(path).splitlines()
    path.write_bytes(b"\n".join((first, bad, second, third, b"")))
    notes: list[str] = []
    metrics = Metrics(path, notes.append)
    assert len(notes) == 1
    assert f"{path}:2 is not a line of metrics" in notes[0]
    metrics.add(1, 2, {})  # is there already
    metrics.add(2, 2, {"reward": 0.5})
    metrics.forget(1)
    assert path.read_bytes().splitlines() == [bad, third, b'{"round": 2, "step": 2, "reward": 0.5}']
