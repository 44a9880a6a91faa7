"""What is missing of a group of slots, and what making samples leaves behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from run_contexts import edit_tasks

from dsrl.errors import BudgetReached
from dsrl.pipeline import slots as slots_module
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.instructor import Instructor
from dsrl.pipeline.slots import SLOT_STAGES, SlotGroup, make_samples
from dsrl.pipeline.stages.keywords import name_keywords
from dsrl.pipeline.stages.pattern import find_pattern
from dsrl.plugins.specs import hookimpl
from dsrl.storage.attempts import Attempt
from dsrl.storage.run_store import RunStore
from dsrl.types import Completion, Example, Price, Reply, Request, Sample, Score

SLOTS = range(2)


def make_sample(slot: int, label: str | None = None, dropped: str | None = None, is_harder: bool = False) -> Sample:
    sample_id = f"1-{slot}"
    if is_harder:
        return Sample(f"{sample_id}h", 1, slot, "harder", "q", "o", label, dropped, sample_id)
    return Sample(sample_id, 1, slot, "initial", "q", "o", label, dropped)


def list_incomplete(store: RunStore) -> list[str]:
    return [stage for stage in SLOT_STAGES if not SlotGroup.read(store, 1, SLOTS).is_complete([stage])]


def test_a_group_knows_what_is_missing_after_each_stage(open_store: RunStore) -> None:
    store = open_store
    assert list_incomplete(store) == ["initial"]
    store.add_samples([make_sample(0)])
    assert list_incomplete(store) == ["initial", "verified"]
    store.add_samples([make_sample(1, dropped="not_json")])
    assert list_incomplete(store) == ["verified"]
    store.add_verdicts([(make_sample(0, "yes"), ["yes"])])
    assert list_incomplete(store) == ["attempted", "adapted", "scored"]
    store.add_greedy_attempts([Attempt("1-0", "o", "yes", True)])
    assert list_incomplete(store) == ["adapted", "scored"]
    store.add_samples([make_sample(0, is_harder=True)])
    assert list_incomplete(store) == ["verified", "scored"]
    store.add_verdicts([(make_sample(0, "yes", is_harder=True), ["yes"])])
    store.add_scores([(Score("1-0", 4, 4, 1.0), {"yes": (4, True)})])
    assert list_incomplete(store) == ["scored"]
    store.add_scores([(Score("1-0h", 4, 4, 1.0), {"yes": (4, True)})])
    assert list_incomplete(store) == []


@pytest.fixture
def prepared(make_run: Any) -> Any:
    """Return a function that makes a run whose keywords, passages and pattern are stored."""

    def prepare(stop_after: str, **settings: Any) -> Any:
        run = make_run(stop_after, samples=4, votes=2, **settings)
        if not run.store.keywords(1):
            run.store.add_keywords(1, {"": {"medicine": ["medicine"]}})
            run.store.add_passages(1, {"": {"medicine": []}})
            run.store.add_patterns(1, {("", ""): ""})
        return run

    return prepare


def test_a_probe_makes_the_first_samples_of_the_run(prepared: Any) -> None:
    run = prepared("verified")
    make_samples(run, 1, 2)
    assert [sample.slot for sample in run.store.samples(1)] == [0, 1]
    assert run.store.stages.get_state(1, "initial") == "started", "the other slots are missing"
    make_samples(run, 1)
    assert [sample.slot for sample in run.store.samples(1)] == [0, 1, 2, 3]
    assert all(sample.label == "entailment" for sample in run.store.samples(1))
    states = [run.store.stages.get_state(1, stage) for stage in ("initial", "verified", "attempted")]
    assert states == ["finished", "finished", "pending"]


def test_rows_that_the_budget_does_not_pay_for_are_left_to_a_larger_one(
    prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = slots_module.write_initial

    async def write_two(instructor: Instructor, definition: Any, source: Any) -> Sample:
        if source.slot >= 2:
            raise BudgetReached("too little")
        return await write(instructor, definition, source)

    monkeypatch.setattr(slots_module, "write_initial", write_two)
    run = prepared("verified", budget=1.0)
    make_samples(run, 1)
    assert run.store.stages.count_unpaid(1) == {"initial": 2}
    assert run.store.stages.get_state(1, "initial") == "started"
    (note,) = [text for _, _, text in run.store.events()]
    assert "the budget of $1.00 is reached: 2 not written" in note
    monkeypatch.setattr(slots_module, "write_initial", write)
    make_samples(run, 1)
    assert run.store.stages.count_unpaid(1) == {}
    assert len(run.store.samples(1)) == 4


def test_an_iteration_that_another_follows_must_be_whole(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: Any) -> Sample:
        raise BudgetReached("too little")

    monkeypatch.setattr(slots_module, "write_initial", refuse)
    with pytest.raises(BudgetReached, match=r"4 not written, and another iteration follows.*larger --budget"):
        make_samples(prepared("verified", budget=1.0, iterations=2), 1)


class RecordingTeacher:
    """Records the requests, and writes the same sample to each."""

    requests: list[Request] = []  # noqa: RUF012 - of one test at a time

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        reply = Reply('{"input": "Is it?", "output": "<answer>entailment</answer>"}')
        return Completion((reply,) * request.n)

    @hookimpl
    def price(self) -> Price:
        return Price(0, 0)


def make_two_tasks(context: RunContext) -> RunContext:
    """Return a context with a task of two domains, of which one has its own demonstrations, and a task of none."""
    (task,) = context.tasks.values()
    demos = {"algebra": (Example("x = 1", "1"),)}
    definition = replace(task.definition, description="MATHS", demos=(Example("1 + 1", "2"),))
    maths = replace(task, domains=("algebra", "geometry"), definition=definition, domain_demos=demos)
    return replace(context, tasks={"maths": maths, "words": replace(task, domains=("letters",))})


def test_the_slots_take_the_tasks_and_their_domains_in_turn(make_run: Any, open_store: RunStore) -> None:
    RecordingTeacher.requests = []
    run = make_run("verified", {"teacher": RecordingTeacher}, samples=9, votes=1)
    run = replace(run, context=make_two_tasks(run.context), store=open_store)
    name_keywords(run, 1)
    run.store.add_passages(1, {})
    find_pattern(run, 1)
    assert sum(request.purpose == "pattern" for request in RecordingTeacher.requests) == 2, (
        "the task's, and that of algebra"
    )
    make_samples(run, 1)
    samples = run.store.samples(1)
    assert Counter((sample.task, sample.domain) for sample in samples) == {
        ("maths", "algebra"): 3,
        ("maths", "geometry"): 2,
        ("words", "letters"): 4,
    }
    assert [run.context.count_slots(task) for task in ("maths", "words")] == [5, 4]
    prompts = ["\n".join(m.content for m in r.messages) for r in RecordingTeacher.requests if r.purpose == "write"]
    for words, count in (
        ("domain of the task: algebra", 3),
        ("domain of the task: geometry", 2),
        ("domain of the task: letters", 0),  # its task has no other
        ("x = 1", 3),
        ("1 + 1", 2),
        ("MATHS", 5),
    ):
        assert sum(words in prompt for prompt in prompts) == count, words


# --- judged tasks ----------------------------------------------------------------------------------------------------


class FixedModel:
    """Answers every prompt with the same label."""

    def __init__(self, model: str) -> None: ...

    @hookimpl
    async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return [["<answer>entailment</answer>"] * n for _ in prompts]


class JudgingTeacher(RecordingTeacher):
    """Writes samples, and accepts the answers of those samples whose judgement is paid for."""

    requests: list[Request] = []  # noqa: RUF012
    paid = 10**9

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        if request.purpose == "judge":
            if sum(one.purpose == "judge" for one in self.requests) >= JudgingTeacher.paid:
                raise BudgetReached("too little")
            self.requests.append(request)
            return Completion((Reply('{"reason": "", "addresses_judge": false, "score": 9}'),))
        return await super().complete(request)


def test_a_judged_sample_gets_no_votes_and_its_attempts_are_judged(prepared: Any, install: Any) -> None:
    JudgingTeacher.requests, JudgingTeacher.paid = [], 10**9
    sampler = install.install_unnamed("sampler", FixedModel)
    run = prepared("scored", plugins={"teacher": JudgingTeacher}, sampler=sampler, attempts=4)
    run = replace(run, context=edit_tasks(run.context, rubric="It must be true."))
    make_samples(run, 1)
    samples = run.store.samples(1)
    assert {sample.label for sample in samples} == {"<answer>entailment</answer>"}
    assert all(score.passed == 4 for score in run.store.scores(1).values())
    assert {request.purpose for request in JudgingTeacher.requests} == {"write", "rewrite", "judge"}
    judged = [request for request in JudgingTeacher.requests if request.purpose == "judge"]
    assert len(judged) == 2, "all samples and all answers are equal; one judgement has no reference"
    assert not any(run.store.stages.count_unpaid(1).values())


def test_judgements_that_the_budget_does_not_pay_for_are_left_to_a_larger_one(prepared: Any, install: Any) -> None:
    JudgingTeacher.requests, JudgingTeacher.paid = [], 1
    sampler = install.install_unnamed("sampler", FixedModel)
    run = prepared("scored", plugins={"teacher": JudgingTeacher}, sampler=sampler, attempts=4, budget=1.0)
    run = replace(run, context=edit_tasks(run.context, rubric="It must be true."))
    with pytest.raises(BudgetReached, match=r"4 without a judged attempt, 4 without a score, and there are no samples"):
        make_samples(run, 1)
    assert {sample.label for sample in run.store.samples(1)} == {"<answer>entailment</answer>"}
    JudgingTeacher.paid = 10**9
    make_samples(run, 1)
    assert len(run.store.scores(1)) == 8
    assert run.store.stages.is_finished(1, "scored")
