"""What a run will ask of its teachers, before a cent is spent.

The prompts are the stages' own. How long replies are is taken from stored replies of the same teacher to the same job where
there are any, else guessed; every number has a range that says how sure it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, cast

from dsrl.pipeline.instructor import Definition, Instructor
from dsrl.pipeline.stages.adapted import rewrite
from dsrl.pipeline.stages.initial import write_initial
from dsrl.pipeline.stages.keywords import find_keywords
from dsrl.pipeline.stages.passages import PASSAGE_LENGTH
from dsrl.pipeline.stages.pattern import summarise_pattern
from dsrl.pipeline.stages.verified import votes_wanted
from dsrl.settings import Settings
from dsrl.teaching.ledger import Ledger
from dsrl.teaching.reply_store import CallStatistics
from dsrl.types import Answer, Completion, Passage, Price, Purpose, Reply, Request, Sample

#: Share of the samples that their votes keep, where nothing is known.
_KEPT = (0.6, 0.85, 1.0)
#: Tokens of a reply, where nothing is known; the third is the length limit.
_TOKENS: dict[Purpose, tuple[int, int]] = {
    "keywords": (10, 60),
    "pattern": (80, 300),
    "write": (60, 300),
    "solve": (30, 300),
    "rewrite": (60, 350),
}
#: The stages that overlap, and whose job they are.
_WALKED: dict[str, Purpose] = {
    "initial": "write",
    "verified": "solve",
    "adapted": "rewrite",
    "verified again": "solve",
}
#: Seconds of a call, where nothing is known.
_SECONDS = (1.0, 5.0, 30.0)
#: Characters of an input, where there is no demonstration to measure.
_INPUT = 600
_BYTES_A_TOKEN = (5.0, 4.0, 2.5)


@dataclass(frozen=True, slots=True)
class Range:
    """A number that is not known yet: what is expected, and between what it lies in nearly all cases."""

    low: float
    expected: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: Range) -> Range:
        return Range(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def times(self, factor: float) -> Range:
        """Give the range of a multiple."""
        return self * Range(factor, factor, factor)


NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One stage.

    Attributes:
        stage, teacher: which it is, and whom it asks.
        calls, prompt_tokens, completion_tokens: of it.
        dollars: None where the price is not known.
        seconds: that the teacher needs if it has nothing else to do and always as many calls under way as it may have;
            None for batches, which take what they take.
        basis: what the numbers rest on.
    """

    stage: str
    teacher: str
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    dollars: Range | None
    seconds: Range | None
    basis: str


@dataclass(frozen=True, slots=True)
class Job:
    """What is known of one job's teacher.

    Attributes:
        teacher: as the user names it.
        provider: jobs of one share the calls that may be under way.
        price: None where it is not known.
        max_n: answers a call; 0: no limit.
        means: of its stored replies; None where there are none.
    """

    teacher: str
    provider: str
    price: Price | None
    max_n: int
    means: CallStatistics | None


def forecast(
    settings: Settings, definition: Definition, jobs: Mapping[Purpose, Job], domains: int
) -> list[StageForecast]:
    """Forecast the stages that ask a teacher.

    Args:
        jobs: by purpose.
        domains: how many are given; with any, no keywords are asked for.
    """
    n = settings.samples * settings.iterations
    write, solve = jobs["write"].means, jobs["solve"].means
    kept = Range(*_KEPT)
    rewritten = jobs["rewrite"].means
    if write and rewritten:
        share = min(rewritten.replies / write.replies, 1.0)
        kept = Range(max(share - 0.1, 0.0), share, min(share + 0.1, 1.0))
    votes = _votes(settings)
    verified = write.replies + (rewritten.replies if rewritten else 0) if write else 0
    if solve and verified and votes.low <= solve.replies / verified <= votes.high:
        mean = solve.replies / verified
        votes = Range(max(mean * 0.85, votes.low), mean, min(mean * 1.15, votes.high))
    # A round of votes is a call where the provider gives n answers; where it gives one, a vote is.
    a_call = solve.replies / solve.calls if solve else 0.0
    rounds = (
        votes.times(1 / a_call)
        if a_call
        else Range(min(votes.low, 1.0), min(votes.expected, 2.0), min(votes.high, 5.0))
    )
    if jobs["solve"].max_n == 1:
        rounds = votes
    first, more = Range(n, n, n), kept.times(n if settings.adapt else 0)
    made: list[StageForecast] = []

    def add(stage: str, purpose: Purpose, calls: Range, replies: Range) -> None:
        made.append(_stage(settings, stage, purpose, jobs[purpose], calls, replies, prompts, jobs["write"]))

    prompts = _prompts(settings, definition)
    if not domains:
        add("keywords", "keywords", *[Range(1, 1, 1).times(settings.iterations)] * 2)
    if definition.demos:
        add("pattern", "pattern", *[Range(1, 1, 1).times(settings.iterations)] * 2)
    add("initial", "write", first, first)
    add("verified", "solve", first * rounds, first * votes)
    if settings.adapt:
        add("adapted", "rewrite", more, more)
        add("verified again", "solve", more * rounds, more * votes)
    return made


def total(stages: list[StageForecast], jobs: Mapping[Purpose, Job]) -> dict[str, Any]:
    """Add up; what is None for a part is None for the whole.

    The seconds are the least that the run takes. Keywords and pattern are asked for first. Then stages overlap: those of
    one provider share the calls that may be under way to it, so they take as long as one after the other, and two
    providers work side by side.
    """
    parts = dict.fromkeys(("calls", "prompt_tokens", "completion_tokens"), NOTHING)
    dollars: Range | None = NOTHING
    first: Range | None = NOTHING
    side_by_side: dict[str, Range] = {}
    for stage in stages:
        parts = {name: part + getattr(stage, name) for name, part in parts.items()}
        dollars = dollars + stage.dollars if dollars is not None and stage.dollars is not None else None
        if first is None or stage.seconds is None:
            first = None
        elif stage.stage not in _WALKED:
            first += stage.seconds
        else:
            provider = jobs[_WALKED[stage.stage]].provider
            side_by_side[provider] = side_by_side.get(provider, NOTHING) + stage.seconds
    seconds = first
    if first is not None and side_by_side:
        each = side_by_side.values()
        longest = Range(max(r.low for r in each), max(r.expected for r in each), max(r.high for r in each))
        seconds = first + longest
    told = {name: asdict(part) for name, part in parts.items()}
    return {**told, "dollars": dollars and asdict(dollars), "seconds": seconds and asdict(seconds)}


def _votes(settings: Settings) -> Range:
    if not settings.votes:
        return NOTHING
    agreed: list[Answer] = ["a"]
    while more := votes_wanted(agreed, settings.votes, settings.vote_confidence):
        agreed += ["a"] * more
    least = len(agreed) - 1
    return Range(least, least + 0.2 * (settings.votes - least), settings.votes)


def _stage(
    settings: Settings,
    stage: str,
    purpose: Purpose,
    job: Job,
    calls: Range,
    replies: Range,
    prompts: Callable[[Purpose], int],
    like: Job | None = None,
) -> StageForecast:
    means = job.means
    if not means and purpose == "rewrite" and like and like.teacher == job.teacher:
        means = like.means  # it writes the same
    if means:
        sure = 2 * means.deviation / math.sqrt(means.replies) + 0.05 * means.completion_tokens
        if means.calls < 5:
            sure += 0.3 * means.completion_tokens
        a_prompt = Range(means.prompt_tokens * 0.9, means.prompt_tokens, means.prompt_tokens * 1.1)
        a_reply = Range(
            max(means.completion_tokens - sure, 0.0), means.completion_tokens, means.completion_tokens + sure
        )
        a_call = Range(means.seconds * 0.7, means.seconds, means.seconds * 1.5)
        basis = f"{means.replies} replies"
    else:
        size = prompts(purpose)
        a_prompt = Range(*(size / each for each in _BYTES_A_TOKEN))
        most = settings.teacher_max_tokens
        a_reply = Range(*(float(min(tokens, most)) for tokens in (*_TOKENS[purpose], most)))
        a_call = Range(*_SECONDS)
        basis = "guess"
    prompt, completion = calls * a_prompt, replies * a_reply
    dollars = None
    if job.price is not None:
        price = job.price
        share = price.batch if settings.batch else 1.0
        dollars = (prompt.times(price.prompt / 1e6) + completion.times(price.completion / 1e6)).times(share)
    seconds = None
    if not settings.batch or purpose in ("keywords", "pattern"):
        seconds = Range(
            *(
                _seconds(settings, getattr(calls, end), getattr(prompt + completion, end), getattr(a_call, end))
                for end in ("low", "expected", "high")
            )
        )
    return StageForecast(stage, job.teacher, calls, prompt, completion, dollars, seconds, basis)


def _seconds(settings: Settings, calls: float, tokens: float, a_call: float) -> float:
    """Give the time of so many calls: one after the other as far as no more may be under way, or as limits let them."""
    least = max(calls / settings.concurrency, min(calls, 1.0)) * a_call
    if settings.requests_per_minute:
        least = max(least, calls / settings.requests_per_minute * 60)
    if settings.tokens_per_minute:
        least = max(least, tokens / settings.tokens_per_minute * 60)
    return least


def first_request(settings: Settings, definition: Definition, domains: int) -> Request:
    """Give what a run asks first; where that is to write a sample, as short as it can be."""
    listener = _Listener()
    instructor = Instructor(cast(Ledger, listener), "", settings.teacher_temperature, settings.teacher_max_tokens)
    first: Coroutine[Any, Any, Any]
    if not domains:
        first = find_keywords(instructor, definition)
    elif definition.demos:
        first = summarise_pattern(instructor, definition)
    else:
        first = write_initial(instructor, definition, "", None, 1, 0, 0, Random(0))
    asyncio.run(first)
    return listener.heard[0]


class _Listener:
    """Stands where the ledger stands and notes what is asked, and how long prompts are."""

    def __init__(self) -> None:
        self.heard: list[Request] = []
        self.sizes: dict[str, int] = {}

    async def complete(self, request: Request) -> Completion:
        self.heard.append(request)
        self.sizes[request.purpose] = sum(len(m.content.encode("utf-8", "replace")) + 16 for m in request.messages)
        return Completion((Reply('{"input": "i", "output": "o"}'),) * request.n)


def _prompts(settings: Settings, definition: Definition) -> Callable[[Purpose], int]:
    """Let the stages write their prompts, with stand-ins for what is not known yet; give their bytes by purpose."""
    listener = _Listener()
    instructor = Instructor(cast(Ledger, listener), "", 0.0, 1)
    inputs = [len(demo.input) for demo in definition.demos]
    text = "x" * (max(inputs) if inputs else _INPUT)
    sample = Sample("1-00000", 1, 0, "initial", text, "x" * 200, label="x")
    passage = Passage("p", "x" * PASSAGE_LENGTH)

    async def listen() -> None:
        parts: list[Coroutine[Any, Any, Any]] = [
            find_keywords(instructor, definition),
            summarise_pattern(instructor, definition),
            write_initial(instructor, definition, "x" * 800, passage, 1, 0, 0, Random(0)),
            rewrite(instructor, definition, sample, True, 0),
        ]
        await asyncio.gather(*parts)

    asyncio.run(listen())
    listener.sizes["solve"] = len(definition.prompt(text).encode()) + 16
    return lambda purpose: listener.sizes.get(purpose, 0)
