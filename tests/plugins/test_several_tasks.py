"""The task of each item: no item gets the reward of another task."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import dsrl
from dsrl.errors import PluginError, SettingsError
from dsrl.plugins.several_tasks import SeveralTasks, check_trainer_takes_tasks, get_task, join_tasks, list_tasks
from dsrl.plugins.specs import hookimpl
from dsrl.testing import SmallTask
from dsrl.types import UNREADABLE, Prompt, TrainItem


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


# --- judged tasks ----------------------------------------------------------------------------------------------------


def join_judged(bound: Any) -> tuple[Any, list[Any]]:
    """Return a joined task of one that is judged and one that is not, and the list of what the judge was given."""
    given: list[Any] = []

    def judge(answers: Any) -> list[float]:
        given.append(list(answers))
        return [len(output) / 10 for _, output in answers]

    tasks = {"poem": bound("task", SmallTask()), "polite": bound("task", SmallTask())}
    return join_tasks(tasks, ["poem"], judge), given


def test_the_rewards_of_rules_and_judges_come_in_the_order_of_the_answers(bound: Any) -> None:
    joined, given = join_judged(bound)
    poem, polite = make_item("poem"), make_item("polite")
    answers = [(polite, "<answer>yes</answer>"), (poem, "12345"), (polite, "?"), (poem, "1234"), (poem, "")]
    rewards = dsrl.compute_rewards(joined, answers)
    assert rewards == [1.0, 0.5, 0.0, 0.4, 0.0]
    assert [getattr(reward, "parts", None) for reward in rewards[:2]] == [
        {"format": 0.1, "result": 0.9},
        {"judge": 0.5},
    ]
    assert given == [[answers[1], answers[3], answers[4]]], "they go out together"
    assert dsrl.grade_all(joined, answers) == [
        ("yes", True),
        ("12345", True),
        (UNREADABLE, False),
        ("1234", False),
        (UNREADABLE, False),
    ]
    assert dsrl.compute_rewards(joined, answers[:1]) == [1.0]
    assert dsrl.compute_rewards(joined, []) == dsrl.grade_all(joined, []) == []
    assert len(given) == 2, "the judge is not called for nothing"


def test_rewards_without_a_judge_are_those_of_the_rules(bound: Any) -> None:
    task = bound("task", SmallTask())
    answers = [(make_item(), "<answer>yes</answer>"), (make_item(), "<answer>no</answer>")]
    assert dsrl.compute_rewards(task, answers) == [1.0, 0.1]
    assert dsrl.grade_all(task, answers) == [("yes", True), ("no", False)]


def test_a_judged_task_has_no_hooks_and_leaves_the_process_never(bound: Any) -> None:
    joined, _ = join_judged(bound)
    words = r"a judged task \(task\d+\), whose reward comes from a teacher; it must call dsrl\.compute_rewards"
    with pytest.raises(PluginError, match=rf"the trainer reads task\.hook in a run with {words}"):
        _ = joined.hook
    with pytest.raises(PluginError, match=r"is judged: .* it must call dsrl\.compute_rewards\(task, answers\)"):
        get_task(joined, make_item("poem"))
    assert get_task(joined, make_item("polite")).name
    for leave in (pickle.dumps, copy.deepcopy, list_tasks):
        with pytest.raises(PluginError, match="to a worker process, which cannot reach the ledger"):
            leave(joined)
    only = join_tasks({"": bound("task", SmallTask())}, [""], lambda answers: [1.0] * len(answers))
    assert isinstance(only, SeveralTasks)
    assert dsrl.compute_rewards(only, [(make_item(), "x")]) == [1.0]


def test_a_trainer_that_cannot_ask_a_judge_is_refused(bound: Any) -> None:
    class Old:
        @hookimpl
        def train(self) -> None: ...

    class Judged(Old):
        @hookimpl
        def takes_judged_tasks(self) -> bool:
            return True

    check_trainer_takes_tasks(bound("trainer", Judged), {"": 1}, ["poem"])
    check_trainer_takes_tasks(bound("trainer", Old), {"": 1})
    with pytest.raises(SettingsError, match=r"cannot train on the judged task poem: .*takes_judged_tasks"):
        check_trainer_takes_tasks(bound("trainer", Old), {"": 1}, ["poem"])
