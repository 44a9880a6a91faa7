"""The process that computes rewards: it binds the tasks when it is imported, so that no reward waits for an import.

Only :class:`dsrl.Worker` imports this module, in a process that can be killed.
"""

from __future__ import annotations

import os
from pathlib import Path

from dsrl import Reward, compute_reward, grade
from dsrl_verl.reward_setup import RewardSetup, bind_task

#: The environment variable with the path of the file that :class:`~dsrl_verl.reward_setup.RewardSetup` writes.
SETUP = "DSRL_VERL_REWARD_SETUP"
#: Maximum number of parts of a reward, and maximum length of the name of a part.
_MAX_PARTS, _MAX_PART_NAME = 100, 100

_setup = RewardSetup.read(Path(os.environ[SETUP]))
_tasks = {name: bind_task(task) for name, task in _setup.tasks.items()}


def compute(task: str, output: str, label: str, input: str, is_graded: bool) -> tuple[float, dict[str, float], bool]:
    """Return the reward of an output, its parts, and whether the output is right.

    Args:
        task: the name of the task, as items have it.
        output: the text of the model.
        label: the right canonical answer.
        input: the input that the output answers.
        is_graded: whether the output is also graded, as in an evaluation; else the last value is False.
    """
    plugin = _tasks[task]
    reward = compute_reward(plugin, output, label, input)
    parts = reward.parts if isinstance(reward, Reward) else {}
    named = {name[:_MAX_PART_NAME]: float(value) for name, value in list(parts.items())[:_MAX_PARTS]}
    return float(reward), named, is_graded and grade(plugin, output, label, input)[1]
