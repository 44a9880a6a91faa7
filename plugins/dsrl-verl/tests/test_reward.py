"""A reward that raises, hangs or dies in verl's workers costs its limit, is written down, and never reaches verl."""

from __future__ import annotations

import asyncio
import json
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dsrl_verl import reward
from dsrl_verl.reward import Guard, check_task, compute_score
from dsrl_verl.reward_setup import RewardSetup, TaskCopy, bind_task, copy_task

from dsrl import PluginError, PluginRef, load

#: A task's reward that does what the output says.
BAD = """
import os, time
from dsrl import Reward, hookimpl

@hookimpl
def reward(output, label):
    if output == "raise": raise ValueError("on purpose")
    if output == "hang": time.sleep(1000)
    if output == "spin":
        while True: pass
    if output == "die": os._exit(3)
    if output == "eat": bytearray(10**12)
    return Reward(len(output) + (label == "yes"), {"long": float(len(output))})
"""


def write_setup(folder: Path, task: TaskCopy, seconds: float = 1.0) -> Path:
    path = folder / "attempt-1" / "reward.json"
    RewardSetup({"": task}, folder / "rewards", 1, seconds, 2048).write(path)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Iterator[str]:
    reward._get_guard.cache_clear()
    yield str(write_setup(tmp_path, TaskCopy("mednli", {}, (("bad.py", BAD),))))
    reward._get_guard.cache_clear()


def ask(setup: str, outputs: list[str], **extra: Any) -> list[dict[str, float]]:
    async def ask_all() -> list[dict[str, float]]:
        facts = {"split": "train", "task": "", "input": "Is it?", **extra}
        questions = (
            compute_score("mednli", output, "yes", {**facts, "index": row}, setup=setup, num_turns=2)
            for row, output in enumerate(outputs)
        )
        return list(await asyncio.gather(*questions))

    return asyncio.run(ask_all())


def test_faults_are_counted_and_the_others_get_their_rewards(bad: str, tmp_path: Path) -> None:
    outputs = ["abc", "raise", "abcd", "die", "hang", "a", "eat", ""]
    start = time.monotonic()
    scores = ask(bad, outputs)
    assert [score["score"] for score in scores] == [4.0, 0.0, 5.0, 0.0, 0.0, 2.0, 0.0, 1.0]
    assert [score["fault"] for score in scores] == [0, 1, 0, 1, 1, 0, 1, 0]
    # The children that died start again, which takes an import each.
    assert time.monotonic() - start < 60
    (log,) = (tmp_path / "rewards").glob("rewards-1-*.jsonl")
    rows = {row["row"]: row for row in map(json.loads, log.read_text().splitlines())}
    assert rows[0] == {"split": "train", "row": 0, "reward": 4.0, "parts": {"long": 3.0}, "right": False}
    assert {row: rows[row].get("fault") for row in (1, 3, 4, 6)} == {1: "raised", 3: "died", 4: "hung", 6: "raised"}
    assert "on purpose" in rows[1]["text"]
    assert "MemoryError" in rows[6]["text"]


def test_a_hang_costs_its_limit(bad: str) -> None:
    ask(bad, ["warm"])
    for output in ("hang", "spin"):
        start = time.monotonic()
        assert ask(bad, [output])[0]["fault"] == 1
        assert 0.9 < time.monotonic() - start < 4
        ask(bad, ["warm"])


def test_answers_of_an_evaluation_are_graded(tmp_path: Path) -> None:
    reward._get_guard.cache_clear()
    setup = str(write_setup(tmp_path, TaskCopy("mednli", {})))
    right = "<think> t </think> <answer> entailment </answer>"

    async def ask_one(split: str, output: str) -> None:
        facts = {"split": split, "index": 0, "task": "", "input": "x"}
        await compute_score("mednli", output, "entailment", facts, setup=setup)

    for split, output in (("dev", right), ("dev", "neutral?"), ("train", right)):
        asyncio.run(ask_one(split, output))
    (log,) = (tmp_path / "rewards").glob("*.jsonl")
    assert [json.loads(line)["right"] for line in log.read_text().splitlines()] == [True, False, False]


def test_a_task_that_cannot_be_bound_is_told_at_once_and_not_tried_again(tmp_path: Path) -> None:
    guard = Guard(write_setup(tmp_path, TaskCopy("no_such_task", {})))
    question = {"task": "", "output": "o", "label": "yes", "input": "i", "is_graded": False}
    outcome = guard.compute(**question)
    assert outcome["fault"] == "start"
    assert "no_such_task" in outcome["text"]
    start = time.monotonic()
    assert guard.compute(**question) == outcome
    assert time.monotonic() - start < 0.1
    guard.close()


def test_overrides_travel_by_content(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BAD)
    task = copy_task(load(PluginRef("task", "mednli", {}, (str(file),)), "task"))
    assert task == TaskCopy("mednli", {}, (("mine.py", BAD),))
    file.unlink()
    setup = write_setup(tmp_path, task)
    again = RewardSetup.read(setup).tasks[""]
    assert again == task
    assert bind_task(again).hook.reward(output="abc", label="no", input="") == 3.0


def test_a_task_from_a_file_travels_by_content(tmp_path: Path) -> None:
    words = """
        description = "Find the department."
        demos = "demos.jsonl"
        [answer]
        form = "tag"
        choices = ["billing", "delivery"]
        [data]
        test = "test.csv"
    """
    (tmp_path / "demos.jsonl").write_text('{"input": "i", "output": "<answer> billing </answer>"}\n')
    own = """
        from dsrl import AnswerFormat
        @hookimpl
        def description(): return "Say yes or no."
        @hookimpl
        def answer_format(): return AnswerFormat("tag", ("yes", "no"))
    """
    (tmp_path / "own.py").write_text(BAD + textwrap.dedent(own))
    (tmp_path / "own.toml").write_text(textwrap.dedent(words))
    copies = [copy_task(load(PluginRef("task", str(tmp_path / name)), "task")) for name in ("own.toml", "own.py")]
    for path in tmp_path.iterdir():
        path.unlink()
    setup = write_setup(tmp_path, copies[0])
    toml = bind_task(RewardSetup.read(setup).tasks[""])
    assert toml.hook.reward(output="<answer> Delivery </answer>", label="delivery", input="") == 1.0
    assert not toml.hook.demos()
    assert bind_task(copies[1]).hook.reward(output="abc", label="no", input="") == 3.0


def test_a_task_that_a_worker_cannot_import_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file reads another one, which is not there any more where its copy is imported."""
    file = tmp_path / "own.py"
    text = "from pathlib import Path\nWORDS = Path(__file__).with_name('words').read_text()\n"
    file.write_text(BAD.replace("import os, time", "import os, time\n" + text))
    (tmp_path / "words").write_text("w")
    task = load(PluginRef("task", "mednli", {}, (str(file),)), "task")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(PluginError, match=r"does not start: .*words"):
        check_task(task, 5.0, 2048)
    check_task(load(PluginRef("task", "mednli"), "task"), 5.0, 2048)
    assert not list((tmp_path / "temporary").iterdir()), "the check leaves nothing on the disk"


def test_options_that_are_no_json_are_refused() -> None:
    class Task:
        ref = PluginRef("task", "odd", {"x": object()})

    with pytest.raises(PluginError, match="'odd'"):
        copy_task(Task())  # type: ignore[arg-type]
