"""The task of each item: no item gets the reward of another task."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import dsrl
from dsrl.errors import PluginError, SettingsError
from dsrl.plugins.several_tasks import SeveralTasks, check_trainer_takes_tasks, get_task, join_tasks, list_tasks
from dsrl.plugins.specs import hookimpl
from dsrl.testing import SmallTask
from dsrl.types import Prompt, TrainItem


def make_item(task: str = "") -> TrainItem:
    return TrainItem("1-0", Prompt("q"), "q", "yes", task)


def test_each_item_has_the_reward_of_its_own_task(bound: Any) -> None:
    tasks = {"polite": bound("task", SmallTask(("yes", "no"))), "letters": bound("task", SmallTask(("a", "b")))}
    joined = join_tasks(tasks)
    rewards = {
        name: get_task(joined, make_item(name)).hook.reward(output="<answer>yes</answer>", label="yes", input="")
        for name in tasks
    }
    assert rewards == {"polite": 1.0, "letters": 0.0}
    assert list_tasks(joined) == tasks
    with pytest.raises(PluginError, match=r"'1-0' has the task 'x', which is none .* \(polite, letters\)"):
        get_task(joined, make_item("x"))


def test_one_task_stays_as_it_is(bound: Any) -> None:
    task = bound("task", SmallTask())
    assert join_tasks({"": task}) is task
    assert list_tasks(task) == {"": task}
    assert get_task(task, make_item()) is dsrl.get_task(task, make_item(task.name)) is task
    with pytest.raises(PluginError, match="has the task 'x'"):
        get_task(task, make_item("x"))


@pytest.mark.parametrize("name", ["hook", "ref", "implements"])
def test_several_tasks_have_no_hook_in_common(bound: Any, name: str) -> None:
    joined = join_tasks({"a": bound("task", SmallTask()), "b": bound("task", SmallTask())})
    assert isinstance(joined, SeveralTasks)
    with pytest.raises(PluginError, match=rf"the trainer reads task\.{name} in a run over several tasks \(a, b\)"):
        getattr(joined, name)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(joined)


def test_a_trainer_of_one_task_is_refused(bound: Any) -> None:
    class One:
        @hookimpl
        def train(self) -> None: ...

    class Several(One):
        @hookimpl
        def takes_several_tasks(self) -> bool:
            return True

    one, several = bound("trainer", One), bound("trainer", Several)
    check_trainer_takes_tasks(one, {"": 1})
    check_trainer_takes_tasks(several, {"a": 1, "b": 2})
    with pytest.raises(SettingsError, match=r"trains on one task only, and this run has 2: a, b\. Give another"):
        check_trainer_takes_tasks(one, {"a": 1, "b": 2})
