"""The same output earns the same everywhere: in this process, in the trainer, in a spawned process, in the evaluation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from task_sources import STRICT

from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.run_tasks import RunTask
from dsrl.pipeline.sampling import AnsweringModel
from dsrl.pipeline.stages.evaluated import evaluate
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.discovery import list_plugins
from dsrl.plugins.scoring import compute_reward, grade
from dsrl.plugins.specs import hookimpl
from dsrl.plugins.task_checks.child import stream_from_child
from dsrl.plugins.task_checks.gold import Answers, CheckedTask, collect_gold
from dsrl.plugins.task_checks.probes import SMALL_GARBAGE
from dsrl.plugins.task_checks.run import score_again
from dsrl.storage.evaluations import EvalItem
from dsrl.types import UNREADABLE, PluginRef, Prompt, Reward, TrainItem

#: Pieces of wild outputs.
PIECES = (
    *("<think>", "</think>", "<answer>", "</answer>", "####", "\\boxed{", "}", "yes", "not ", "entailment", "neutral"),
    *(
        " 72",
        "1,234.50",
        "-",
        "/",
        "%",
        "$",
        " or ",
        "\n",
        "B",
        "(A)",
        "\uff17\uff12",
        "\u2212",
        "\ud800",
        "\x00",
        "9" * 50,
    ),
)


def write_wild_outputs(count: int) -> list[str]:
    random = Random(7)
    return ["".join(random.choices(PIECES, k=random.randint(1, 12))) for _ in range(count)]


def list_triples(task: Plugin[Any]) -> list[tuple[str, str, str]]:
    """Return outputs with labels and inputs: right ones, wrong ones and wild ones."""
    checked = CheckedTask(task)
    answers = Answers(checked, collect_gold(checked, None, 0))
    triples = []
    for item in answers.items[:6]:
        outputs = [item.right, *map(answers.write, answers.list_wrong(item)), *write_wild_outputs(60), *SMALL_GARBAGE]
        triples += [(output, item.label, item.input) for output in outputs]
    return triples


class FakeTraining:
    """Keeps how the trainer rewards and grades, instead of training."""

    reward: Callable[[list[tuple[TrainItem, str]]], list[float]]
    grade: Callable[[list[tuple[TrainItem, str]]], list[bool]]

    def __init__(self, job: Any, reward: Any, grade: Any, options: Any) -> None:
        FakeTraining.reward, FakeTraining.grade = staticmethod(reward), staticmethod(grade)

    def run(self, on_step: Any) -> None: ...


class Parrot:
    """A sampler that answers every prompt with the text that it is given for it."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    @hookimpl
    async def sample(self, prompts: list[Prompt]) -> list[list[str]]:
        return [[self.texts[int(prompt.split()[0])]] for prompt in prompts]


def describe(reward: float) -> tuple[float, dict[str, float]]:
    return float(reward), dict(reward.parts) if isinstance(reward, Reward) else {}


@pytest.mark.parametrize(
    "name", ["words:tag:yes,no" if plugin.name == "words" else plugin.name for plugin in list_plugins("task")]
)
def test_an_output_earns_the_same_everywhere(name: str, bound: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    training = pytest.importorskip("dsrl_transformers.training")
    from dsrl_transformers.grpo import GRPOTrainer

    ref = PluginRef("task", name)
    task = load(ref, "task")
    triples = list_triples(task)
    if not triples:
        pytest.skip("the task has neither demonstrations, procedural samples nor choices")
    here = [describe(compute_reward(task, *triple)) for triple in triples]
    assert len({value for value, _ in here}) > 1

    monkeypatch.setattr(training, "Training", FakeTraining)
    job: Any = None  # the fake does not look at it
    GRPOTrainer().train(job, task, print)
    items = [TrainItem(str(n), Prompt(""), text, label) for n, (_, label, text) in enumerate(triples)]
    answers = [(item, output) for item, (output, *_) in zip(items, triples, strict=True)]
    assert list(map(describe, FakeTraining.reward(answers))) == here
    trained = FakeTraining.grade(answers)

    (there,) = [
        event
        for event in stream_from_child(score_again, (ref, triples, 30.0), lambda event: 60.0)
        if isinstance(event, list)
    ]
    assert there == here

    graded = [grade(task, *triple) for triple in triples]
    assert trained == [is_right for _, is_right in graded]
    sampler = bound("sampler", Parrot([output for output, *_ in triples]))
    model = AnsweringModel(sampler, {"": RunTask("t", task, Definition("d", "", "o"))}, 99)
    numbered = [(number, EvalItem(f"{number} {text}", label)) for number, (_, label, text) in enumerate(triples)]
    evaluated = asyncio.run(evaluate(model, "base", numbered))
    assert [evaluation.correct for evaluation in evaluated] == trained
    full = max(value for value, _ in here)
    assert [value == full for value, _ in here] == trained, "what the evaluation counts as right earns the full reward"


def test_an_answer_is_read_and_graded(bound: Any) -> None:
    task = bound("task", STRICT)
    assert grade(task, "<answer>yes</answer>", "yes", "") == ("yes", True)
    assert grade(task, "<answer>yes</answer>", "no", "") == ("yes", False)
    assert grade(task, "\ud800", "no", "") == (UNREADABLE, False)


def test_a_lone_surrogate_is_replaced_before_a_task_sees_it(bound: Any) -> None:
    source = f"{STRICT}\n@hookimpl\ndef reward(output):\n    return float(len(output.encode()))\n"
    assert compute_reward(bound("task", source), "\ud800a", "yes", "") == 2.0
