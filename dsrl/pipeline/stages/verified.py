"""Verification: the label is the answer that most votes agree on (paper, A.3).

Votes are asked for in rounds, each as large as it must be to settle the label, and no vote is asked for once it is settled.
The votes are always the first of the same row of replies, so that asking for fewer of them changes no label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import comb

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import Definition, Instructor
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TaskSpec
from dsrl.types import UNREADABLE, Answer, Message, Sample


async def verify(
    instructor: Instructor,
    definition: Definition,
    task: Plugin[TaskSpec],
    sample: Sample,
    votes: int,
    confidence: float = 0.0,
    rounds: int = 0,
) -> tuple[Sample, list[Answer]]:
    """Let the teacher answer the sample's input up to ``votes`` times and settle its label.

    Args:
        votes: at most.
        confidence: see :func:`votes_wanted`.
        rounds: the last of so many rounds asks for all votes that are left; 0: no such round.

    Returns:
        The sample with ``label`` or ``dropped`` set, and all answers, the sample's own first.
    """
    answers = [task.hook.process_prediction(output=sample.output, input=sample.input)]
    messages = (Message("user", definition.prompt(sample.input)),)
    while wanted := votes_wanted(answers, votes, confidence):
        rounds -= 1
        first = len(answers) - 1
        n = votes - first if rounds == 0 else wanted
        try:
            replies = await instructor.ask("solve", messages, {"input": sample.input}, n=n, first=first)
        except RowRefused as refused:
            return replace(sample, dropped=refused.reason), answers
        answers += [task.hook.process_prediction(output=reply.text, input=sample.input) for reply in replies]
    label, reason = majority(answers)
    return replace(sample, label=label, dropped=reason), answers


def majority(answers: Sequence[Answer]) -> tuple[str | None, str | None]:
    """Give the most frequent readable answer.

    Returns:
        The answer and None, or None and the reason: ``no_readable_answer``, or ``no_majority`` when the first place is
        shared. (The original takes the answer met first then; which one that is, is chance.)
    """
    counts = Counter(answer for answer in answers if answer is not UNREADABLE).most_common(2)
    if not counts:
        return None, "no_readable_answer"
    if len(counts) == 2 and counts[0][1] == counts[1][1]:
        return None, "no_majority"
    return str(counts[0][0]), None


def votes_wanted(answers: Sequence[Answer], votes: int, confidence: float = 0.0) -> int:
    """Give how many more votes it takes at least to settle the label; 0 when it is settled or all votes are in.

    Args:
        answers: the sample's own, then the votes so far.
        votes: how many there are at most.
        confidence: 0: settled is what no vote that is left can change. Above it, voting also stops when
            :func:`confidence_in_leader` reaches it.
    """
    left = votes + 1 - len(answers)
    counts = [n for _, n in Counter(answer for answer in answers if answer is not UNREADABLE).most_common(2)]
    leader, second = [*counts, 0, 0][:2]
    for more in range(left + 1):
        # The quickest way to an end is that the leader gets every vote.
        ahead = leader + more - second
        certain = ahead > left - more
        if (
            more == left
            or certain
            or (confidence and ahead and confidence_in_leader(leader + more, second) >= confidence)
        ):
            return more
    return 0


def confidence_in_leader(leader: int, second: int) -> float:
    """Give the probability that the answer with most votes beats the runner-up, by the votes of the two.

    The mass above 1/2 of the Beta distribution with the parameters ``leader + 1`` and ``second + 1``, as an exact sum of a
    binomial (Aggarwal et al. 2023, "Let's Sample Step by Step", section 3: the Beta stopping rule of
    Adaptive-Consistency).
    """
    n = leader + second + 1
    return float(sum(comb(n, j) for j in range(leader + 1)) / 2**n)
