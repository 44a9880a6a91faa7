from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from dsrl import Completion, Message, PluginRef, Request, SettingsError, TeacherError
from dsrl.pipeline.stages.verified import find_majority
from dsrl.plugins.binding import Plugin, load
from dsrl.types import Purpose

TASK = load(PluginRef("task", "chain_classes"), "task")
#: The sample's own answer and 16 votes.
VOTES = 17


def bind(**options: object) -> Plugin[Any]:
    teacher = load(PluginRef("teacher", "noisy", options), "teacher")
    teacher.hook.prepare(task=TASK, model="")
    return teacher


def ask(teacher: Plugin[Any], purpose: Purpose, n: int = 1, first: int = 0, **variables: str) -> list[str]:
    message = Message("user", " ".join(variables.values()))
    request = Request(purpose, "", (message,), 0.7, 64, n=n, first=first, variables=variables)
    completion: Completion = asyncio.run(teacher.hook.complete(request=request))
    return [reply.text for reply in completion.replies]


def vote(teacher: Plugin[Any], text: str) -> Counter[str]:
    """Return how many votes each answer to an input has."""
    return Counter(
        str(TASK.hook.process_prediction(output=output, input=text))
        for output in ask(teacher, "solve", VOTES, input=text)
    )


def collect_votes(teacher: Plugin[Any], count: int) -> list[tuple[str, Counter[str]]]:
    """Return pairs of the right answer and the votes, for so many samples of the generator."""
    pairs = []
    for seed in range(count):
        sample = TASK.hook.procedural_sample(seed=seed, difficulty=1 + seed % 4, passage="", domain="")
        right = str(TASK.hook.process_label(output=sample.output, input=sample.input))
        pairs.append((right, vote(teacher, sample.input)))
    return pairs


def measure_wrong_labels(pairs: list[tuple[str, Counter[str]]]) -> float:
    labels = [(right, find_majority(list(votes.elements()))[0]) for right, votes in pairs]
    return sum(label not in (None, right) for right, label in labels) / len(labels)


@pytest.mark.parametrize("unanimous", [False, True])
@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.2])
def test_the_share_of_wrong_labels_is_as_asked(wrong: float, unanimous: bool) -> None:
    pairs = collect_votes(bind(wrong=wrong, unanimous=unanimous), 1000)
    assert measure_wrong_labels(pairs) == pytest.approx(wrong, abs=0.035)


def test_wrong_votes_fall_mostly_on_one_mistake() -> None:
    doubtful = [(right, votes) for right, votes in collect_votes(bind(wrong=0.5), 600) if votes[right] < VOTES * 0.6]
    assert len(doubtful) > 300
    wrong = [sorted((n for answer, n in votes.items() if answer != right), reverse=True) for right, votes in doubtful]
    assert sum(counts[0] for counts in wrong) / sum(map(sum, wrong)) == pytest.approx(0.72, abs=0.05)


def test_a_unanimous_teacher_makes_one_mistake_only() -> None:
    doubtful = [(right, votes) for right, votes in collect_votes(bind(wrong=0.5, unanimous=True), 300)]
    wrong = [votes for right, votes in doubtful if votes[right] < VOTES / 2]
    assert len(wrong) > 100
    assert all(len(votes) <= 2 for votes in wrong)


def test_replies_depend_on_the_request_and_the_number_only() -> None:
    first, second = bind(wrong=0.5), bind(wrong=0.5)
    text = "n4 op2 op5 ="
    assert ask(first, "solve", 8, input=text) == ask(second, "solve", 8, input=text)
    assert ask(first, "solve", 4, first=4, input=text) == ask(second, "solve", 8, input=text)[4:]


def test_a_written_sample_can_be_solved_and_its_answer_can_be_wrong() -> None:
    samples = [json.loads(text) for text in ask(bind(wrong=0.5), "write", 200)]
    rights = []
    for sample in samples:
        solution = TASK.hook.procedural_solve(input=sample["input"])
        assert solution is not None
        rights.append(solution.output == sample["output"])
    assert 0.3 < sum(rights) / len(rights) < 0.7
    assert {sample["input"].count("op") for sample in samples} == {1, 2, 3, 4}


@pytest.mark.parametrize(("direction", "lengths"), [("harder", {3, 4}), ("easier", {1})])
def test_a_rewritten_sample_is_longer_or_shorter(direction: str, lengths: set[int]) -> None:
    texts = ask(bind(), "rewrite", 50, input="n4 op2 op5 =", direction=direction)
    assert {json.loads(text)["input"].count("op") for text in texts} == lengths


def test_its_keywords_and_pattern_are_texts() -> None:
    assert all(ask(bind(), purpose, description="d", examples="") for purpose in ("keywords", "pattern"))


def test_it_does_not_judge_and_does_not_answer_other_inputs() -> None:
    with pytest.raises(TeacherError, match="--judge-teacher"):
        ask(bind(), "judge", input="n4 op2 =")
    (reply,) = ask(bind(), "solve", input="What is 1 + 1?")
    assert reply == "This is no chain."


def test_a_task_of_another_distribution_is_refused() -> None:
    teacher = load(PluginRef("teacher", "noisy"), "teacher")
    with pytest.raises(TeacherError, match="'mednli'"):
        teacher.hook.prepare(task=load(PluginRef("task", "mednli"), "task"), model="")


@pytest.mark.parametrize("options", [{"wrong": 0.6}, {"wrong": -0.1}, {"wrong": True}, {"unanimous": "yes"}])
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"--teacher-option {next(iter(options))}="):
        load(PluginRef("teacher", "noisy", options), "teacher")
