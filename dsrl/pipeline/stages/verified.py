"""Verification: the label of a sample is the answer with the most votes of the teacher (paper, A.3).

Votes are requested in rounds. A round has as many votes as are needed at least to settle the label, and no vote is requested
after that. The votes are always the first of the same sequence of replies, so fewer votes never change a label.

A sample of a judged task gets no votes: the judge accepts its own output as its label, or the sample is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import Definition, Instructor
from dsrl.pipeline.judging import Judge, make_submission
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TaskSpec
from dsrl.types import RIGHT_SCORE, UNREADABLE, Answer, Message, Sample


@dataclass(frozen=True, slots=True)
class VotePolicy:
    """How many votes to request.

    Attributes:
        votes: maximum number of votes.
        confidence: see :func:`count_needed_votes`.
        max_rounds: the last of so many rounds requests all remaining votes; 0: no limit.
    """

    votes: int
    confidence: float = 0.0
    max_rounds: int = 0


async def verify(
    instructor: Instructor, definition: Definition, task: Plugin[TaskSpec], sample: Sample, policy: VotePolicy
) -> tuple[Sample, list[Answer]]:
    """Let the teacher answer the input of a sample until its label is settled.

    Returns:
        The sample with ``label`` or ``dropped`` set, and all answers, with the sample's own first.
    """
    answers = [task.hook.process_prediction(output=sample.output, input=sample.input)]
    messages = (Message("user", definition.make_question(sample.input)),)
    rounds = 0
    while needed := count_needed_votes(answers, policy.votes, policy.confidence):
        rounds += 1
        first = len(answers) - 1
        n = policy.votes - first if rounds == policy.max_rounds else needed
        try:
            replies = await instructor.ask("solve", messages, {"input": sample.input}, n=n, first=first)
        except RowRefused as refusal:
            return replace(sample, dropped=refusal.reason), answers
        answers += [task.hook.process_prediction(output=reply.text, input=sample.input) for reply in replies]
    label, reason = find_majority(answers)
    return replace(sample, label=label, dropped=reason), answers


async def verify_by_judge(judge: Judge, sample: Sample) -> tuple[Sample, list[Answer]]:
    """Let the judge of its task judge the output of a sample, which is its label if the judge accepts it.

    Returns:
        The sample with ``label`` or ``dropped`` set, and the judged answer.
    """
    submission = make_submission(sample.input, sample.output)
    (score,) = await judge.judge([submission])
    if score >= RIGHT_SCORE:
        return replace(sample, label=sample.output.strip()), [submission.answer]
    return replace(sample, dropped="rejected_by_judge"), [submission.answer]


def find_majority(answers: Sequence[Answer]) -> tuple[str | None, str | None]:
    """Find the most frequent readable answer.

    Returns:
        The answer and None, or None and the reason: ``no_readable_answer``, or ``no_majority`` if two answers have the most
        votes. (The original then takes the answer that came first, which is a matter of chance.)
    """
    counts = Counter(answer for answer in answers if answer is not UNREADABLE).most_common(2)
    if not counts:
        return None, "no_readable_answer"
    if len(counts) == 2 and counts[0][1] == counts[1][1]:
        return None, "no_majority"
    return str(counts[0][0]), None


def count_needed_votes(answers: Sequence[Answer], votes: int, confidence: float = 0.0) -> int:
    """Count how many more votes are needed at least to settle the label; 0 if it is settled or all votes are there.

    Args:
        answers: the sample's own answer, then the votes so far.
        votes: maximum number of votes.
        confidence: 0: a label is settled if no remaining vote can change it. Above 0, voting also stops when
            :func:`compute_confidence` reaches it.
    """
    remaining = votes + 1 - len(answers)
    counts = [n for _, n in Counter(answer for answer in answers if answer is not UNREADABLE).most_common(2)]
    leader, second = [*counts, 0, 0][:2]
    for more in range(remaining + 1):
        # The label is settled soonest if the leader gets every vote.
        ahead = leader + more - second
        is_certain = ahead > remaining - more
        is_confident = confidence and ahead and compute_confidence(leader + more, second) >= confidence
        if more == remaining or is_certain or is_confident:
            return more
    return 0


def compute_confidence(leader: int, second: int) -> float:
    """Compute the probability that the leading answer beats the second, from the votes of the two.

    It is the mass above 1/2 of the Beta distribution with the parameters ``leader + 1`` and ``second + 1``, as an exact sum
    of a binomial (Aggarwal et al. 2023, "Let's Sample Step by Step", section 3: the Beta stopping rule of
    Adaptive-Consistency).
    """
    n = leader + second + 1
    return float(sum(comb(n, j) for j in range(leader + 1)) / 2**n)
