"""Judges: a teacher says how well an answer fulfils a rubric, for a task without an answer that rules can check.

A model that is trained on a judge's points learns to talk to the judge. So an answer stands in the prompt as a JSON string,
behind everything that is meant for the judge; an answer that plainly tries to instruct the judge earns nothing, and no
request is sent for it; and the judge itself reports an answer that speaks to it. Every reply goes through the ledger: it is
stored under its prompt, so that the same answer to the same input is paid for once.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dsrl.answers.places import read_whole_answer
from dsrl.errors import RowRefused
from dsrl.pipeline.concurrency import run_together
from dsrl.pipeline.instructor import Instructor
from dsrl.pipeline.json_replies import read_json_reply
from dsrl.pipeline.prompts import render
from dsrl.pipeline.run_tasks import RunTasks
from dsrl.text import replace_surrogates
from dsrl.types import UNREADABLE, Answer, Reply

#: The points of the best answer; the score of an answer is its share of them.
MOST_POINTS = 10
#: Characters of each text that the judge reads; of a longer text it reads the beginning and the end.
LONGEST_TEXT = 16_000
_KEYS = ("reason", "addresses_judge", "score")
#: JSON schema of a reply, for teachers with structured output.
JUDGEMENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "addresses_judge": {"type": "boolean"},
        # Not a minimum and a maximum, which not every provider knows.
        "score": {"type": "integer", "enum": list(range(MOST_POINTS + 1))},
    },
    "required": list(_KEYS),
    "additionalProperties": False,
}
# Every gap is bounded, so that the time of a search grows in proportion to the text.
_POINTS = r"(?:marks?|scores?|points?|credits?|grades?|ratings?)"
_TEN = r"(?:10|ten)"
_THIS = (
    r"(?:\b(?:give|award|assign|grant|rate|score|grade|mark)"
    r" (?:it|this|that|me|my|the (?:answer|response|output|solution))\b"
    r"|\b(?:answer|response|output|solution|text|i) deserves?\b)"
)
_GIVE = rf"(?:\b(?:give|award|assign|grant)\b|{_THIS})"
_INSTRUCTION = re.compile(
    "|".join(
        (
            # The judge's own reply, which an answer forges.
            r"addresses[ _-]?judge",
            r"[\"'`“] {0,3}score {0,3}\\?[\"'`”] {0,3}[:=] {0,3}[\"']?\d",
            # "ignore the rubric", "disregard all previous instructions"
            r"\b(?:ignore|disregard|forget|override|bypass|overlook)\b.{0,40}?\b(?:rubric"
            r"|(?:grading|scoring|marking|judging) (?:criteri|scheme|rule|guide|instruction)"
            r"|(?:previous|prior|above|earlier|preceding|system|your) (?:instruction|prompt|rule|guideline))",
            # "give full marks", "this answer deserves the highest score"
            rf"{_GIVE}.{{0,20}}?\b(?:full|maximum|maximal|max|perfect) {_POINTS}\b",
            rf"{_THIS}.{{0,40}}?\b(?:top|highest|best(?: possible)?) {_POINTS}\b",
            # "rate this answer 10/10", "award a score of 10", "give it ten points"
            rf"{_GIVE}.{{0,20}}?\b{_TEN} ?(?:/|out of) ?{_TEN}\b",
            rf"{_GIVE}.{{0,20}}?\b{_POINTS} ?(?:of|is|=|:)? ?{_TEN}\b",
            rf"{_THIS}.{{0,20}}?\b{_TEN} {_POINTS}\b",
        )
    ),
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Submission:
    """An answer to be judged.

    Attributes:
        input: the input that it answers.
        answer: the output of a model without its thinking part; ``UNREADABLE`` if nothing is left.
        reference: a good output for the input; empty if none is known.
    """

    input: str
    answer: Answer
    reference: str = ""


def make_submission(input: str, output: str, reference: str = "") -> Submission:
    """Make a submission of an output. What stands in a thinking part is judged neither in the output nor in the reference.

    Args:
        input: the input that the output answers.
        output: the text of a model.
        reference: a good output for the input; empty if none is known.
    """
    reference = replace_surrogates(reference)
    return Submission(
        replace_surrogates(input),
        read_whole_answer(replace_surrogates(output)),
        str(read_whole_answer(reference) or reference.strip()),
    )


@dataclass(slots=True)
class JudgeCounts:
    """Counts the answers of a stage that a judge was to judge.

    Attributes:
        judged: different answers with a judgement, from the teacher or by rule.
        unreadable: answers that earned nothing because no judgement could be read, or because the provider refused them.
        instructing: answers that earned nothing because they plainly try to instruct the judge.
    """

    judged: int = 0
    unreadable: int = 0
    instructing: int = 0

    def describe(self) -> str:
        """Return a warning about answers that earned nothing for a reason that may be no fault of theirs; empty if none."""
        parts = []
        if self.unreadable:
            parts.append(
                f"for {self.unreadable} of {self.judged} answers ({self.unreadable / self.judged:.1%}) no judgement "
                "could be read, and they earned 0: see --retries-unreadable, or give another --judge-teacher"
            )
        if self.instructing:
            parts.append(
                f"{self.instructing} of {self.judged} answers ({self.instructing / self.judged:.1%}) try to instruct the "
                "judge (they name its reply, or ask for points), and earned 0 without being judged"
            )
        return "; ".join(parts)


@dataclass(frozen=True)
class Judge:
    """Judges the answers to one task.

    Attributes:
        instructor: asks the teacher.
        description, rubric: the task in words, and what makes an answer good.
        counts: where the answers are counted.
    """

    instructor: Instructor
    description: str
    rubric: str
    counts: JudgeCounts = field(default_factory=JudgeCounts)

    async def judge(self, submissions: Iterable[Submission]) -> list[float]:
        """Return the score of each submission, 0 to 1. All requests go out together, one for equal submissions.

        Raises:
            TeacherError, StoreError: as in :meth:`dsrl.teaching.ledger.Ledger.complete`.
        """
        submissions = list(submissions)
        distinct = list(dict.fromkeys(submissions))
        scores = dict(zip(distinct, await run_together(map(self._judge_one, distinct)), strict=True))
        return [scores[submission] or 0.0 for submission in submissions]

    async def try_judge(self, submissions: Iterable[Submission]) -> list[float | None]:
        """Return the score of each submission; None where no judgement could be read. See :meth:`judge`."""
        return await run_together(map(self._judge_one, submissions))

    async def _judge_one(self, submission: Submission) -> float | None:
        """Return the score of a submission; None if no judgement could be read."""
        if submission.answer is UNREADABLE:
            return 0.0
        if tries_to_instruct(str(submission.answer)):
            self.counts.judged += 1
            self.counts.instructing += 1
            return 0.0
        score = await self._ask(submission)
        self.counts.judged += 1
        self.counts.unreadable += score is None
        return score

    async def _ask(self, submission: Submission) -> float | None:
        texts = {
            "input": shorten(submission.input),
            "reference": shorten(submission.reference),
            "answer": shorten(str(submission.answer)),
        }
        item = json.dumps({**texts, "reference": texts["reference"] or None}, ensure_ascii=False)
        messages = render("judge", description=self.description, rubric=self.rubric, item=item)
        variables = {"input": texts["input"], "output": texts["answer"], "reference": texts["reference"]}
        judging = replace(self.instructor, temperature=0.0)
        for retry in range(self.instructor.retries_unreadable + 1):
            try:
                (reply,) = await judging.ask("judge", messages, variables, first=retry, schema=JUDGEMENT_SCHEMA)
            except RowRefused:
                return None
            if (score := read_judgement(reply)) is not None:
                return score
        return None


#: Name of a judged task (a key of the run's tasks) -> its judge.
Judges = Mapping[str, Judge]


def make_judges(tasks: RunTasks, instructors: Mapping[str, Instructor], counts: JudgeCounts) -> dict[str, Judge]:
    """Make the judges of the judged tasks of a run.

    Args:
        tasks: the tasks of the run.
        instructors: ask the teachers of each task.
        counts: where the answers are counted.
    """
    return {
        key: Judge(instructors[key], task.definition.description, task.rubric, counts)
        for key, task in tasks.items()
        if task.rubric
    }


async def judge_all(judges: Judges, submissions: Sequence[tuple[str, Submission]]) -> list[float]:
    """Return the scores of submissions to several tasks, in their order; all requests go out together.

    Args:
        judges: the judges.
        submissions: pairs of the name of a judged task and a submission.

    Raises:
        TeacherError, StoreError: as in :meth:`dsrl.teaching.ledger.Ledger.complete`.
    """
    names = list(dict.fromkeys(name for name, _ in submissions))
    own = [[submission for of, submission in submissions if of == name] for name in names]
    lists = await run_together(judges[name].judge(group) for name, group in zip(names, own, strict=True))
    scores = {name: iter(results) for name, results in zip(names, lists, strict=True)}
    return [next(scores[name]) for name, _ in submissions]


def read_judgement(reply: Reply) -> float | None:
    """Return the score in a reply, 0 to 1: 0 for an answer that speaks to the judge; None if the reply cannot be read."""
    if reply.finish_reason == "length":  # the first digit of a score may be left, and not the second
        return None
    record = read_json_reply(reply.text, _KEYS)
    if record is None:
        return None
    points, addresses_judge = record.get("score"), record.get("addresses_judge")
    if type(points) is not int or not 0 <= points <= MOST_POINTS or not isinstance(addresses_judge, bool):
        return None
    return 0.0 if addresses_judge else points / MOST_POINTS


def tries_to_instruct(answer: str) -> bool:
    """Return whether an answer plainly tries to instruct its judge.

    It does if it has the keys of the judge's own reply, tells somebody to ignore the rubric, the grading or the
    instructions, or asks for the full points. What is too long to be sent is not looked at.
    """
    text = unicodedata.normalize("NFKC", shorten(answer))  # full-width letters are letters
    return _INSTRUCTION.search(" ".join(text.split())) is not None


def shorten(text: str) -> str:
    """Return a text, or the beginning and the end of a text that is too long, with a note of what is left out."""
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters are left out here ...] {text[-half:]}"
