"""Further attempts of the base model, in rounds over the samples of an iteration, until they can stop.

The stage ``scored`` makes the first attempts at each group of slots. Which samples need more is a decision over all of them
(:mod:`dsrl.pipeline.attempt_stopping`), so the rounds begin when the last group is scored. A round is stored in one
transaction, and the next one depends on stored rows and the seed only: a run that was killed makes the same rounds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from dsrl.errors import BudgetReached
from dsrl.pipeline.attempt_stopping import (
    FIRST_ATTEMPTS,
    ROUND_ATTEMPTS,
    AttemptCounts,
    SelectionRule,
    find_next,
    make_counts,
)
from dsrl.pipeline.concurrency import run_together
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.sampling import AnsweringModel, can_number_attempts
from dsrl.pipeline.stages.scored import Scored, compute_score, score
from dsrl.pipeline.stages.selected import draw_order, list_selectable
from dsrl.settings import Settings
from dsrl.types import Sample, Score

#: Samples of one call of the sampler.
_CALL_SIZE = 128


def get_confidence(context: RunContext) -> float:
    """Return the confidence at which the attempts stop; 0: all are made, also because the sampler cannot go on with them."""
    return context.settings.attempt_confidence if can_number_attempts(context.sampler) else 0.0


def count_first_attempts(context: RunContext) -> int:
    """Return how many attempts at each sample the stage ``scored`` makes before the rounds."""
    can_stop = context.is_online or get_confidence(context) > 0
    return min(context.settings.attempts, FIRST_ATTEMPTS) if can_stop else context.settings.attempts


def make_seed(settings: Settings, iteration: int, made: int = 0) -> int:
    """Return the seed of the attempts of an iteration.

    Args:
        settings: the settings of the run.
        iteration: from 1.
        made: number of attempts that are made, for a sampler that does not number them: it would draw the same again.
    """
    text = f"{settings.seed}:{iteration}:attempts:{made or ''}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def make_rule(context: RunContext) -> SelectionRule:
    """Return the selection of a run as far as the attempts matter to it."""
    settings = context.settings
    return SelectionRule(
        name=context.selection_rule,
        m=settings.select,
        attempts=settings.attempts,
        never_solved=settings.never_solved,
        max_pass_rate=settings.max_pass_rate,
        is_filled=settings.fill,
        is_balanced=settings.balance,
    )


def find_round(run: OpenRun, iteration: int, pool: Sequence[Sample]) -> list[Sample]:
    """Return the samples of the next round; none if the attempts can stop.

    Args:
        run: the open run.
        iteration: from 1.
        pool: from :func:`read_pool`.
    """
    settings, scores = run.settings, run.store.scores(iteration)
    confidence = get_confidence(run.context)
    if not confidence:
        return [sample for sample in pool if scores[sample.id].attempts < settings.attempts]
    rule, seed = make_rule(run.context), f"{settings.seed}:{iteration}"
    places = find_next(_count(pool, scores), rule, confidence, seed) if pool else []
    return [pool[place] for place in places]


def read_pool(run: OpenRun, iteration: int) -> list[Sample]:
    """Return the samples whose attempts may have to go on, in the order in which the seed breaks ties; perhaps none.

    If the trainer chooses the samples, the first attempts are enough, unless this command ends with the stage ``scored``.
    """
    settings = run.settings
    if run.context.is_online and run.context.stop_after != "scored":
        return []
    if run.store.count_attempts(iteration).least >= settings.attempts:
        return []
    if not get_confidence(run.context):
        scored = run.store.scores(iteration)
        return [sample for sample in run.store.samples(iteration) if sample.id in scored]
    return sorted(list_selectable(run, iteration), key=lambda sample: draw_order(sample.id, settings.seed))


async def attempt_in_rounds(run: OpenRun, iteration: int, model: AnsweringModel, unpaid: Counter[str]) -> None:
    """Attempt samples again until the attempts can stop.

    Args:
        run: the open run; all its samples have a score.
        iteration: from 1.
        model: the base model.
        unpaid: counts the samples whose attempts the budget did not pay a judge for.
    """
    settings, confidence = run.settings, get_confidence(run.context)
    pool, number = read_pool(run, iteration), 0
    if settings.attempt_confidence > confidence and settings.attempts > FIRST_ATTEMPTS and not run.context.is_online:
        run.add_note(
            f"all {settings.attempts} attempts are made at every sample, and --attempt-confidence has no effect: the "
            f"sampler {model.sampler.name!r} cannot go on with its attempts (its hook `sample` has no argument `first`)"
        )
    if pool and not confidence:
        least = run.store.count_attempts(iteration).least
        run.add_note(
            f"the pass rates rest on {least} attempts at a sample; the other {settings.attempts - least} are made now"
        )
    while asked := find_round(run, iteration, pool):
        number += 1
        run.progress.set_status(f"attempts, round {number}: {len(asked)} of {len(pool)} samples again")
        try:
            with run.clock.measure("scored"):
                results = await _attempt(run, iteration, model, asked)
        except BudgetReached:
            unpaid["scored"] += len(asked)
            break
        finally:
            run.progress.set_status("")
        run.store.add_attempts(results)


async def _attempt(run: OpenRun, iteration: int, model: AnsweringModel, asked: Sequence[Sample]) -> list[Scored]:
    """Return the new scores of samples, each with its new answers."""
    settings, scores = run.settings, run.store.scores(iteration)
    by_number: dict[int, list[Sample]] = {}
    for sample in asked:
        by_number.setdefault(scores[sample.id].attempts, []).append(sample)
    most = ROUND_ATTEMPTS if get_confidence(run.context) else settings.attempts
    calls = [
        score(
            model,
            samples[start : start + _CALL_SIZE],
            min(most, settings.attempts - made),
            settings.attempt_temperature,
            make_seed(settings, iteration, 0 if model.numbers_attempts else made),
            made if model.numbers_attempts else 0,
        )
        for made, samples in sorted(by_number.items())
        for start in range(0, len(samples), _CALL_SIZE)
    ]
    return [
        (_add(scores[result.sample], result), answers) for call in await run_together(calls) for result, answers in call
    ]


def _add(before: Score, more: Score) -> Score:
    passed, attempts = before.passed + more.passed, before.attempts + more.attempts
    return Score(before.sample, attempts, passed, compute_score(passed, attempts))


def _count(pool: Sequence[Sample], scores: dict[str, Score]) -> AttemptCounts:
    own = [scores[sample.id] for sample in pool]
    tasks = {name: number for number, name in enumerate(sorted({sample.task for sample in pool}))}
    labels = {label: number for number, label in enumerate(dict.fromkeys(str(sample.label) for sample in pool))}
    return make_counts(
        [each.passed for each in own],
        [each.attempts for each in own],
        [tasks[sample.task] for sample in pool],
        [labels[str(sample.label)] for sample in pool],
    )
