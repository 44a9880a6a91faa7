"""A forecast of what a run will request from its teachers, before any money is spent.

The prompts are those of the stages (:mod:`dsrl.pipeline.dry_run`). The length of a reply comes from stored replies of the
same teacher for the same purpose, or is a guess if there are none. Every number has a range that says how certain it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dsrl.pipeline.attempt_rounds import get_confidence
from dsrl.pipeline.attempt_stopping import FIRST_ATTEMPTS
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.dev_items import HELD_OUT_SHARE, MOST_REAL_ITEMS
from dsrl.pipeline.dry_run import measure_prompts
from dsrl.pipeline.preflight import check_files, check_teachers
from dsrl.pipeline.run_tasks import list_judged
from dsrl.pipeline.stages.evaluated import load_items
from dsrl.pipeline.stages.verified import count_needed_votes
from dsrl.pipeline.teachers import TeacherRole, TeacherRoles
from dsrl.settings import Settings
from dsrl.teaching.reply_store import CallStatistics, read_statistics
from dsrl.types import Answer, Purpose

#: Share of the samples that get a label, if nothing is known.
_VERIFIED_SHARE = (0.6, 0.85, 1.0)
#: Tokens of a reply, if nothing is known: low and expected; the high number is the maximum length.
_REPLY_TOKENS: dict[Purpose, tuple[int, int]] = {
    "keywords": (10, 60),
    "pattern": (80, 300),
    "write": (60, 300),
    "solve": (30, 300),
    "rewrite": (60, 350),
    "judge": (30, 90),
}
#: Share of the answers that differ from all earlier ones to the same input; each is judged once.
_DISTINCT_SHARE = (0.1, 0.7, 1.0)
#: Share of the attempts that are made if they can stop (--attempt-confidence).
_ATTEMPTED_SHARE = 0.5
#: The stages that overlap, and the purpose of their requests.
_OVERLAPPING: dict[str, Purpose] = {
    "initial": "write",
    "verified": "solve",
    "adapted": "rewrite",
    "verified again": "solve",
    "verified, judge": "judge",
    "verified again, judge": "judge",
    "attempted, judge": "judge",
    "scored, judge": "judge",
}
#: Stages whose requests wait for no batch.
_NEVER_BATCHED = ("keywords", "pattern", "trained, judge", "evaluated, judge")
#: Seconds of a call, if nothing is known.
_CALL_SECONDS = (1.0, 5.0, 30.0)
_BYTES_PER_TOKEN = (5.0, 4.0, 2.5)


@dataclass(frozen=True, slots=True)
class Range:
    """A number that is not known yet.

    Attributes:
        low, high: the number is between these two in nearly all cases.
        expected: the most likely number.
    """

    low: float
    expected: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: Range) -> Range:
        return Range(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def times(self, factor: float) -> Range:
        """Return the range of a multiple."""
        return self * Range(factor, factor, factor)


ZERO = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class StageForecast:
    """The forecast of one stage.

    Attributes:
        stage, purpose, teacher: the stage, what it asks for, and the teacher that it asks.
        calls, prompt_tokens, completion_tokens: the numbers of the stage.
        dollars: None if the price is not known.
        seconds: the time that the teacher needs if it works on nothing else and always has as many calls in flight as are
            allowed; None for batches, whose time is not known.
        basis: what the numbers are based on.
    """

    stage: str
    purpose: Purpose
    teacher: str
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    dollars: Range | None
    seconds: Range | None
    basis: str


@dataclass(frozen=True, slots=True)
class _Volume:
    """The calls of a stage and the replies that they bring."""

    stage: str
    purpose: Purpose
    calls: Range
    replies: Range


#: What stored replies say about each purpose; None if there are no replies.
Statistics = Mapping[Purpose, CallStatistics | None]


def make_plan(context: RunContext) -> dict[str, Any]:
    """Return the object of ``dsrl plan --json``. No teacher is asked, and nothing is written.

    Raises:
        DsrlError: something is wrong with the settings, the inputs or the plugins, as for the run.
    """
    check_teachers(context)
    check_files(context)
    stages = forecast_stages(context, load_statistics(context))
    return {
        "run": context.settings.name,
        "stages": [asdict(stage) for stage in stages],
        "total": sum_stages(stages, context.teachers),
        "budget_usd": context.settings.budget,
    }


def load_statistics(context: RunContext) -> Statistics:
    """Read what the stored replies of the teachers of a run say about each purpose."""
    return {
        purpose: read_statistics(context.workspace.reply_store, purpose, role.plugin.name, role.model)
        for purpose, role in context.teachers.items()
    }


def forecast_stages(context: RunContext, statistics: Statistics) -> list[StageForecast]:
    """Forecast the stages that ask a teacher."""
    settings, sizes = context.settings, measure_prompts(context)
    forecasts = []
    for volume in _estimate_volumes(context, statistics):
        role = context.teachers[volume.purpose]
        known = statistics[volume.purpose]
        if known is None and volume.purpose == "rewrite" and role.label == context.teachers["write"].label:
            known = statistics["write"]  # the same teacher writes the same kind of text
        forecasts.append(_forecast_stage(settings, volume, role, known, sizes[volume.purpose]))
    return forecasts


def sum_stages(stages: list[StageForecast], teachers: TeacherRoles) -> dict[str, Any]:
    """Return the forecast of the whole run; what is None for a part is None for the whole.

    The seconds are the least that the run takes. Keywords and pattern come first. Then the stages overlap: those of the same
    provider share its calls in flight, so their times are added; two providers work at the same time.
    """
    totals = dict.fromkeys(("calls", "prompt_tokens", "completion_tokens"), ZERO)
    dollars: Range | None = ZERO
    seconds: Range | None = ZERO
    by_provider: dict[str, Range] = {}
    for stage in stages:
        totals = {name: value + getattr(stage, name) for name, value in totals.items()}
        dollars = dollars + stage.dollars if dollars is not None and stage.dollars is not None else None
        if seconds is None or stage.seconds is None:
            seconds = None
        elif stage.stage not in _OVERLAPPING:
            seconds += stage.seconds
        else:
            provider = teachers[_OVERLAPPING[stage.stage]].provider
            by_provider[provider] = by_provider.get(provider, ZERO) + stage.seconds
    if seconds is not None and by_provider:
        times = by_provider.values()
        seconds += Range(max(t.low for t in times), max(t.expected for t in times), max(t.high for t in times))
    return {
        **{name: asdict(value) for name, value in totals.items()},
        "dollars": asdict(dollars) if dollars is not None else None,
        "seconds": asdict(seconds) if seconds is not None else None,
    }


# --- calls and replies ---------------------------------------------------------------------------------------------------


def _estimate_volumes(context: RunContext, statistics: Statistics) -> list[_Volume]:
    settings = context.settings
    samples = settings.samples * settings.iterations
    votes = _estimate_votes(settings, statistics)
    rounds = _estimate_rounds(votes, statistics["solve"], context.teachers["solve"].max_n)
    judged = sum(map(context.count_slots, list_judged(context.tasks))) * settings.iterations
    first, voted = Range(samples, samples, samples), Range(*[float(samples - judged)] * 3)
    verified = _estimate_verified_share(statistics)
    volumes = []
    once: dict[Purpose, int] = {
        "keywords": sum(not task.domains for task in context.tasks.values()),
        "pattern": sum(len(task.list_pattern_domains()) for task in context.tasks.values()),
    }
    for purpose, count in once.items():
        if count:
            calls = Range(count, count, count).times(settings.iterations)
            volumes.append(_Volume(purpose, purpose, calls, calls))
    volumes.append(_Volume("initial", "write", first, first))
    if voted.high:
        volumes.append(_Volume("verified", "solve", voted * rounds, voted * votes))
    if settings.adapt:
        rewritten = verified.times(samples)
        volumes.append(_Volume("adapted", "rewrite", rewritten, rewritten))
        if voted.high:
            again = verified * voted
            volumes.append(_Volume("verified again", "solve", again * rounds, again * votes))
    return volumes + (_estimate_judgements(context, judged, verified) if judged else [])


def _estimate_judgements(context: RunContext, samples: int, verified: Range) -> list[_Volume]:
    """Return the judgements of a run, stage by stage.

    Args:
        context: the run.
        samples: number of initial samples of the judged tasks, over all iterations.
        verified: share of the samples that get a label.
    """
    settings, distinct = context.settings, Range(*_DISTINCT_SHARE)
    first = Range(samples, samples, samples)
    labelled = verified * first
    rewritten = labelled if settings.adapt else ZERO
    scored = labelled + verified * rewritten
    share = samples / (settings.samples * settings.iterations)
    selected = settings.select * settings.iterations * share
    trained = Range(min(scored.low, selected), min(scored.expected, selected), min(scored.high, selected))
    calls = {
        "verified, judge": first,
        "verified again, judge": rewritten,
        "attempted, judge": labelled,
        "scored, judge": scored * _estimate_attempts(context) * distinct,
        "trained, judge": (
            trained.times(settings.epochs * settings.group_size) * _count_refills(context)
            + _estimate_dev(settings, share, scored)
        )
        * distinct,
        "evaluated, judge": Range(*[2.0 * _count_test_items(context)] * 3) * distinct,
    }
    return [_Volume(stage, "judge", count, count) for stage, count in calls.items() if count.high]


def _estimate_attempts(context: RunContext) -> Range:
    """Return the attempts of the base model at each sample."""
    most = context.settings.attempts
    if context.is_online:
        return Range(*[float(min(most, FIRST_ATTEMPTS))] * 3)
    if not get_confidence(context) or most <= FIRST_ATTEMPTS:
        return Range(most, most, most)
    return Range(FIRST_ATTEMPTS, max(FIRST_ATTEMPTS, _ATTEMPTED_SHARE * most), most)


def _count_refills(context: RunContext) -> Range:
    """Return how many prompts are answered for each prompt of a training step."""
    return Range(1.0, 1.4, 2.0) if context.is_online else Range(1.0, 1.0, 1.0)


def _estimate_dev(settings: Settings, share: float, scored: Range) -> Range:
    """Return how many answers to items of judged tasks are judged in the evaluations during the training."""
    if not settings.eval_every:
        return ZERO
    steps = settings.epochs * math.ceil(settings.select / settings.batch_size)
    evaluations = (steps // settings.eval_every + 1) * settings.iterations
    if settings.eval_data == "train":
        return Range(0.0, 1.0, 1.0).times(MOST_REAL_ITEMS * evaluations * share)
    return scored.times(evaluations / settings.iterations / HELD_OUT_SHARE)


def _count_test_items(context: RunContext) -> int:
    """Count the test items of the judged tasks.

    Raises:
        DataError: the test data cannot be loaded.
    """
    size = context.settings.test_size
    judged = [context.tasks[key] for key in list_judged(context.tasks)]
    return sum(len(load_items(task.plugin, task.dataset_path, size, columns=task.columns)) for task in judged)


def _estimate_verified_share(statistics: Statistics) -> Range:
    """Return the share of the initial samples that get a label, and are rewritten."""
    written, rewritten = statistics["write"], statistics["rewrite"]
    if not written or not rewritten:
        return Range(*_VERIFIED_SHARE)
    share = min(rewritten.replies / written.replies, 1.0)
    return Range(max(share - 0.1, 0.0), share, min(share + 0.1, 1.0))


def _estimate_votes(settings: Settings, statistics: Statistics) -> Range:
    """Return the votes per sample."""
    if not settings.votes:
        return ZERO
    agreeing: list[Answer] = ["a"]
    while more := count_needed_votes(agreeing, settings.votes, settings.vote_confidence):
        agreeing += ["a"] * more
    least = len(agreeing) - 1
    votes = Range(least, least + 0.2 * (settings.votes - least), settings.votes)
    written, rewritten, solved = statistics["write"], statistics["rewrite"], statistics["solve"]
    samples = written.replies + (rewritten.replies if rewritten else 0) if written else 0
    if solved and samples and votes.low <= solved.replies / samples <= votes.high:
        mean = solved.replies / samples
        return Range(max(mean * 0.85, votes.low), mean, min(mean * 1.15, votes.high))
    return votes


def _estimate_rounds(votes: Range, solved: CallStatistics | None, max_n: int) -> Range:
    """Return the calls per sample: a round of votes is one call, or one call per vote if a call brings one reply."""
    if max_n == 1:
        return votes
    if solved and solved.replies:
        return votes.times(solved.calls / solved.replies)
    return Range(min(votes.low, 1.0), min(votes.expected, 2.0), min(votes.high, 5.0))


# --- tokens, dollars and seconds -----------------------------------------------------------------------------------------


def _forecast_stage(
    settings: Settings, volume: _Volume, role: TeacherRole, known: CallStatistics | None, prompt_bytes: int
) -> StageForecast:
    if known:
        margin = 2 * known.deviation / math.sqrt(known.replies) + 0.05 * known.completion_tokens
        if known.calls < 5:
            margin += 0.3 * known.completion_tokens
        mean = known.completion_tokens
        per_prompt = Range(known.prompt_tokens * 0.9, known.prompt_tokens, known.prompt_tokens * 1.1)
        per_reply = Range(max(mean - margin, 0.0), mean, mean + margin)
        per_call = Range(known.seconds * 0.7, known.seconds, known.seconds * 1.5)
        basis = f"{known.replies} replies"
    else:
        limit = settings.teacher_max_tokens
        per_prompt = Range(*(prompt_bytes / size for size in _BYTES_PER_TOKEN))
        per_reply = Range(*(float(min(tokens, limit)) for tokens in (*_REPLY_TOKENS[volume.purpose], limit)))
        per_call = Range(*_CALL_SECONDS)
        basis = "guess"
    is_batched = settings.batch and volume.stage not in _NEVER_BATCHED
    prompt, completion = volume.calls * per_prompt, volume.replies * per_reply
    dollars = None
    if role.price is not None:
        share = role.price.batch if is_batched else 1.0
        cost = prompt.times(role.price.prompt / 1e6) + completion.times(role.price.completion / 1e6)
        dollars = cost.times(share)
    seconds = None
    if not is_batched:
        seconds = _estimate_seconds(settings, volume.calls, prompt + completion, per_call)
    return StageForecast(
        volume.stage, volume.purpose, role.label, volume.calls, prompt, completion, dollars, seconds, basis
    )


def _estimate_seconds(settings: Settings, calls: Range, tokens: Range, per_call: Range) -> Range:
    """Return the time of the calls: the calls in flight and the limits per minute bound it."""

    def estimate(calls: float, tokens: float, per_call: float) -> float:
        seconds = max(calls / settings.concurrency, min(calls, 1.0)) * per_call
        if settings.requests_per_minute:
            seconds = max(seconds, calls / settings.requests_per_minute * 60)
        if settings.tokens_per_minute:
            seconds = max(seconds, tokens / settings.tokens_per_minute * 60)
        return seconds

    return Range(
        estimate(calls.low, tokens.low, per_call.low),
        estimate(calls.expected, tokens.expected, per_call.expected),
        estimate(calls.high, tokens.high, per_call.high),
    )
