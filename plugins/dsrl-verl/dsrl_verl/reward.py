"""verl's custom reward function: the task's own ``reward``, in a process that can be killed.

verl loads this module in each of its reward workers (``reward.custom_reward_function.path=pkg://dsrl_verl.reward``). A
reward that raises makes verl drop the whole group of answers without a word, and one that hangs makes it wait for ever. So
:func:`compute_score` never raises and never takes much longer than its limit: a reward that fails counts 0 and is written
into a log, which dsrl reads while verl runs (:mod:`dsrl_verl.reward_log`). Too many of them stop the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dsrl import BoundPlugin, PluginError, Worker, WorkerError, list_tasks
from dsrl_verl.reward_setup import RewardSetup, copy_task

#: Texts in the log are cut to this length.
_LONGEST = 500
#: What went wrong -> the word in the log.
_FAULTS = {"time": "hung", "memory": "memory", "crash": "died", "exception": "raised"}


class Guard:
    """Computes rewards, one after the other, in a child process.

    Args:
        setup: path of the file with the tasks and the limits.
    """

    def __init__(self, setup: Path) -> None:
        facts = RewardSetup.read(setup)
        # The child inherits it.
        os.environ["DSRL_VERL_REWARD_SETUP"] = str(setup)
        self._worker: Worker[Any, Any] = Worker(
            "dsrl_verl.reward_child:compute",
            seconds=facts.seconds,
            wall_seconds=facts.seconds,
            memory_mb=facts.memory_mb,
        )
        facts.log.mkdir(parents=True, exist_ok=True)
        name = f"rewards-{facts.attempt}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._log = (facts.log / name).open("a", encoding="utf-8", buffering=1)
        self._start_fault = ""

    def compute(self, **question: Any) -> dict[str, Any]:
        """Return ``reward``, ``parts`` and ``right``; or ``fault`` and ``text`` if the reward failed."""
        if self._start_fault:  # to try it again for each answer would cost minutes each time
            return {"fault": "start", "text": self._start_fault}
        try:
            reward, parts, right = self._worker.call(**question)
        except WorkerError as error:
            return {"fault": _FAULTS[error.reason], "text": str(error)[:_LONGEST]}
        except Exception as error:  # noqa: BLE001 - nothing may reach verl, which would drop the group
            self._start_fault = f"{type(error).__name__}: {error}"[:_LONGEST]
            return {"fault": "start", "text": self._start_fault}
        return {"reward": reward, "parts": parts, "right": right}

    def require_start(self, **question: Any) -> None:
        """Ask once, so that a task that the child cannot bind is told now; how the reward itself does is no matter.

        Raises:
            PluginError: the child could not be started.
        """
        outcome = self.compute(**question)
        if outcome.get("fault") == "start":
            raise PluginError(
                f"verl's workers could not compute rewards, so the training does not start: {outcome['text']}"
            )

    def write(self, row: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """Append an outcome to the log."""
        self._log.write(json.dumps({**row, **outcome}) + "\n")

    def close(self) -> None:
        """End the child."""
        self._worker.close()
        self._log.close()


def check_task(task: BoundPlugin[Any], seconds: float, memory_mb: int) -> None:
    """Bind the tasks of a run as a worker will.

    Args:
        task: the argument ``task`` of the trainer's hooks.
        seconds: time that one reward may take.
        memory_mb: mebibytes that the process of the rewards may take.

    Raises:
        PluginError: a worker could not bind one of them.
    """
    copies = {key: copy_task(one) for key, one in list_tasks(task).items()}
    with tempfile.TemporaryDirectory(prefix="dsrl-verl-check-") as folder:
        setup = Path(folder, "reward.json")
        RewardSetup(copies, Path(folder), 0, seconds, memory_mb).write(setup)
        guard = Guard(setup)
        try:
            guard.require_start(task=next(iter(copies)), output="", label="", input="", is_graded=False)
        finally:
            guard.close()


@cache
def _get_guard(setup: str) -> Guard:
    return Guard(Path(setup))


@cache
def _get_lock(loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
    return asyncio.Lock()


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    setup: str = "",
    **kwargs: Any,
) -> dict[str, float]:
    """Return the reward of an answer as verl reads it; see the top of this module.

    Args:
        data_source: name of the task; the one that counts is in ``extra_info``.
        solution_str: the text of the model.
        ground_truth: the right canonical answer.
        extra_info: what :func:`dsrl_verl.rows.make_rows` has written into the row.
        setup: path of the file with the tasks and the limits.
        kwargs: what other versions of verl hand over; it is not used.

    Returns:
        ``score``; and ``fault``, which is 1 if the score is 0 because the reward failed.
    """
    facts = extra_info or {}
    split = str(facts.get("split", ""))
    guard = _get_guard(setup)
    # One at a time: the others wait here and not in threads.
    async with _get_lock(asyncio.get_running_loop()):
        outcome = await asyncio.to_thread(
            guard.compute,
            task=str(facts.get("task", "")),
            output=solution_str,
            label=str(ground_truth),
            input=str(facts.get("input", "")),
            is_graded=split != "train",
        )
    guard.write({"split": split, "row": int(facts.get("index", -1))}, outcome)
    return {"score": float(outcome.get("reward", 0.0)), "fault": float("fault" in outcome)}
