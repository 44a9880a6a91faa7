"""Verification: the label is the answer that most votes agree on (paper, A.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from dsrl.errors import RowRefused
from dsrl.hookspecs import TaskSpec
from dsrl.instructor import Definition, Instructor
from dsrl.plugins import Plugin
from dsrl.records import UNREADABLE, Answer, Message, Sample


async def verify(
    instructor: Instructor, definition: Definition, task: Plugin[TaskSpec], sample: Sample, votes: int
) -> tuple[Sample, list[Answer]]:
    """Let the teacher answer the sample's input ``votes`` times and settle its label.

    Returns:
        The sample with ``label`` or ``dropped`` set, and all answers, the sample's own first.
    """
    answers = [task.hook.process_prediction(output=sample.output)]
    if votes:
        messages = (Message("user", definition.prompt(sample.input)),)
        try:
            replies = await instructor.ask("solve", messages, {"input": sample.input}, n=votes)
        except RowRefused as refused:
            return replace(sample, dropped=refused.reason), answers
        answers += [task.hook.process_prediction(output=reply.text) for reply in replies]
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
