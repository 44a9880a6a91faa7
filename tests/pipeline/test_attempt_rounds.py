"""Attempts in rounds: which attempts are made, and that a run that was stopped makes the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from choosing_trainer import ChoosingTrainer

from dsrl.pipeline import runtime
from dsrl.pipeline.attempt_stopping import FIRST_ATTEMPTS, ROUND_ATTEMPTS
from dsrl.pipeline.slots import make_samples
from dsrl.pipeline.stages.selected import select_samples
from dsrl.plugins.specs import hookimpl
from dsrl.storage.attempts import Attempt
from dsrl.storage.run_store import RunStore
from dsrl.types import Prompt, Sample

SAMPLES, L = 48, 32


class FakeStop(Exception):
    """Stands for the end of the process."""


class NumberedSampler:
    """Solves question k of 48 with the probability k/48; an attempt depends on prompt, seed and number only."""

    calls: list[tuple[int, int, int]] = []  # noqa: RUF012 - of one test at a time: prompts, first, n
    stop_at = 0

    @hookimpl
    async def sample(
        self, prompts: Sequence[Prompt], n: int, seed: int, first: int, temperature: float
    ) -> list[list[str]]:
        self.calls.append((len(prompts), first, n))
        if len(self.calls) == self.stop_at:
            raise FakeStop
        return [[self.answer(prompt, seed, number) for number in range(first, first + n)] for prompt in prompts]

    @staticmethod
    def answer(prompt: str, seed: int, number: int) -> str:
        rate = int(prompt.split("#")[1].split()[0]) / SAMPLES
        digest = hashlib.sha256(f"{prompt}/{seed}/{number}".encode()).digest()
        is_right = int.from_bytes(digest[:4], "big") / 2**32 < rate
        wrong = ("neutral", "contradiction")[digest[5] % 2]
        return f"<answer>{'entailment' if is_right else wrong}</answer>"


class PlainSampler(NumberedSampler):
    """The same without numbers of attempts."""

    @hookimpl
    async def sample(self, prompts: Sequence[Prompt], n: int, seed: int) -> list[list[str]]:
        self.calls.append((len(prompts), 0, n))
        return [[self.answer(prompt, seed, number) for number in range(n)] for prompt in prompts]


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    NumberedSampler.calls, NumberedSampler.stop_at = [], 0


@pytest.fixture
def prepared(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a run whose samples are verified and attempted once."""

    def prepare(sampler: type = NumberedSampler, **settings: Any) -> Any:
        fixed = {"samples": SAMPLES, "select": 16, "attempts": L, "adapt": False, "decontaminate": False}
        run = make_run("scored", {"sampler": sampler}, **{**fixed, **settings})
        # A run binds its sampler anew for each iteration, to the model that it starts from.
        monkeypatch.setattr(runtime, "bind_sampler", lambda settings, model: run.context.sampler)
        if not run.store.samples(1):
            add_samples(run.store)
        return run

    return prepare


def add_samples(store: RunStore) -> None:
    store.add_keywords(1, {"": {"medicine": ["medicine"]}})
    store.add_passages(1, {"": {"medicine": []}})
    store.add_patterns(1, {("", ""): ""})
    samples = [Sample(f"1-{slot:05d}", 1, slot, "initial", f"#{slot} ?", "o") for slot in range(SAMPLES)]
    store.add_samples(samples)
    label = "entailment"
    store.add_verdicts([(Sample(s.id, 1, s.slot, "initial", s.input, "o", label), [label]) for s in samples])
    store.add_greedy_attempts([Attempt(s.id, "o", label, True) for s in samples])


def forget_scores(store: RunStore) -> None:
    for table in ("scores", "attempts"):
        store._database.execute(f"DELETE FROM {table}")


def read_scores(store: RunStore) -> dict[str, tuple[int, int]]:
    return {name: (score.passed, score.attempts) for name, score in store.scores(1).items()}


def test_the_attempts_are_the_first_ones_of_a_full_scoring(prepared: Any) -> None:
    run = prepared(attempt_confidence=0.95)
    make_samples(run, 1)
    scores = run.store.scores(1)
    assert run.store.stages.is_finished(1, "scored")
    stopped, total = read_scores(run.store), run.store.count_attempts(1)
    assert FIRST_ATTEMPTS <= total.least < total.most <= L
    assert total.attempts < 0.75 * SAMPLES * L
    for name, score in scores.items():
        answers = run.store.list_answers(name)
        assert sum(answer["times"] for answer in answers) == score.attempts
        assert sum(answer["times"] for answer in answers if answer["right"]) == score.passed
        assert len({answer["answer"] for answer in answers}) == len(answers)

    forget_scores(run.store)
    full = prepared(attempt_confidence=0.0)
    make_samples(full, 1)
    assert all(attempts == L for _, attempts in read_scores(full.store).values())
    solved = {name: passed for name, (passed, _) in read_scores(full.store).items()}
    made = {name: passed + L - attempts for name, (passed, attempts) in stopped.items()}
    assert all(stopped[name][0] <= solved[name] <= made[name] for name in stopped), "they are a prefix"


def test_later_attempts_go_on_where_the_first_ones_ended(prepared: Any) -> None:
    run = prepared(attempt_confidence=0.95)
    make_samples(run, 1)
    firsts = [first for _, first, n in NumberedSampler.calls if n > 1]
    assert firsts.count(0) == 3, "the three groups of slots"
    assert {first for first in firsts if first} <= set(range(FIRST_ATTEMPTS, L, ROUND_ATTEMPTS))


@pytest.mark.parametrize("stop_at", [2, 4, 5, 8])
def test_a_run_that_was_stopped_makes_the_same_rounds(prepared: Any, stop_at: int) -> None:
    run = prepared(attempt_confidence=0.95)
    NumberedSampler.stop_at = stop_at
    with pytest.raises(BaseException, match="FakeStop"):
        make_samples(run, 1)
    assert not run.store.stages.is_finished(1, "scored")
    NumberedSampler.stop_at = 0
    make_samples(run, 1)
    interrupted = read_scores(run.store)
    forget_scores(run.store)
    make_samples(prepared(attempt_confidence=0.95), 1)
    assert read_scores(run.store) == interrupted


def test_a_sampler_that_cannot_go_on_makes_all_attempts_and_the_user_is_told(prepared: Any) -> None:
    run = prepared(PlainSampler, attempt_confidence=0.95)
    make_samples(run, 1)
    assert {attempts for _, attempts in read_scores(run.store).values()} == {L}
    (note,) = [text for _, _, text in run.store.events()]
    assert note.startswith(
        f"all {L} attempts are made at every sample, and --attempt-confidence has no effect: the sampler"
    )


@pytest.mark.parametrize("sampler", [NumberedSampler, PlainSampler])
def test_a_trainer_that_chooses_needs_the_first_attempts_and_the_others_come_on_demand(
    make_run: Any, prepared: Any, sampler: type
) -> None:
    prepared(sampler)
    settings = {"samples": SAMPLES, "attempts": L, "adapt": False, "decontaminate": False, "selection": "online"}
    settings["attempt_confidence"] = 0.0 if sampler is NumberedSampler else 0.95
    plugins = {"sampler": sampler, "trainer": ChoosingTrainer}
    run = make_run("selected", plugins, **settings)
    make_samples(run, 1)
    assert {attempts for _, attempts in read_scores(run.store).values()} == {FIRST_ATTEMPTS}
    assert run.store.events() == []
    make_samples(make_run("scored", plugins, **settings), 1)
    scores = read_scores(run.store)
    assert {attempts for _, attempts in scores.values()} == {L}
    ((_, _, note),) = run.store.events()
    assert (
        note
        == f"the pass rates rest on {FIRST_ATTEMPTS} attempts at a sample; the other {L - FIRST_ATTEMPTS} are made now"
    )
    if sampler is NumberedSampler:
        forget_scores(run.store)
        make_samples(prepared(attempt_confidence=0.0), 1)
        assert read_scores(run.store) == scores, "they are the attempts of a full scoring"


def test_a_random_selection_needs_the_first_attempts_only(prepared: Any) -> None:
    run = prepared(attempt_confidence=0.95, selection="random")
    make_samples(run, 1)
    assert {attempts for _, attempts in read_scores(run.store).values()} == {FIRST_ATTEMPTS}


def test_the_selection_is_close_to_that_of_all_attempts(prepared: Any) -> None:
    run = prepared(attempt_confidence=0.95)
    make_samples(run, 1)
    select_samples(run, 1)
    chosen = set(run.store.selected(1))
    run.store.forget_training(1)
    forget_scores(run.store)
    full = prepared(attempt_confidence=0.0)
    make_samples(full, 1)
    select_samples(full, 1)
    assert len(chosen & set(full.store.selected(1))) >= 14
