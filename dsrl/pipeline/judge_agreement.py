"""How well the judge of a task agrees with given labels: ``dsrl tasks check TASK --judgements FILE``."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dsrl.datasets import read_json_rows
from dsrl.errors import DataError, SettingsError
from dsrl.pipeline import signals
from dsrl.pipeline.context import make_call_policy
from dsrl.pipeline.instructor import Instructor
from dsrl.pipeline.judging import Judge, Submission, make_submission
from dsrl.pipeline.preflight import check_roles
from dsrl.pipeline.run_tasks import RunTask, add_teachers, bind_tasks
from dsrl.pipeline.workspace import Workspace
from dsrl.plugins.task_checks.records import CheckResult, Finding, count
from dsrl.settings import Settings, resolve
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.teaching.pricing import dollars
from dsrl.teaching.reply_store import Spending
from dsrl.text import replace_surrogates
from dsrl.types import RIGHT_SCORE

#: The name of the check.
JUDGEMENTS = "judgements"
_SHAPE = '{"input": "...", "output": "...", "score": 0 to 1, or "right": true or false, perhaps "reference": "..."}'


@dataclass(frozen=True, slots=True)
class GivenJudgement:
    """An answer with a label that somebody has given.

    Attributes:
        submission: the answer.
        score: the given score, 0 to 1.
    """

    submission: Submission
    score: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a judge agrees with given labels; answers without a readable judgement count as 0, as in a run.

    Attributes:
        rows: number of labels.
        agreeing: number of answers that the judge and the label put on the same side of 0.5.
        low, high: the 95% interval of the share of these (Wilson 1927).
        kappa: Cohen's kappa (1960) of the two sides; None if all labels are on one side of 0.5.
        difference: mean absolute difference of the scores.
        unreadable: number of answers without a readable judgement.
    """

    rows: int
    agreeing: int
    low: float
    high: float
    kappa: float | None
    difference: float
    unreadable: int

    @property
    def share(self) -> float:
        """The share of the answers that the judge and the label put on the same side of 0.5."""
        return self.agreeing / self.rows


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """A check of a judge that can be run: the task is bound, the teacher is prepared, the labels are read."""

    task: RunTask
    settings: Settings
    policy: CallPolicy
    workspace: Workspace
    given: Sequence[GivenJudgement]


def prepare_check(path: Path, workspace: Workspace, **settings: Any) -> JudgeCheck:
    """Bind the task and its judge and read the given labels; nothing is paid.

    Args:
        path: a JSONL file of labels.
        workspace: the folders of runs and caches.
        settings: the settings of the check; ``teacher`` is the judge.

    Raises:
        DsrlError: the file, the task, the teacher, a price or the budget is wrong, or the task has no rubric.
    """
    given = read_judgements(path)
    resolved = resolve(settings)
    policy = make_call_policy(resolved)
    (task,) = add_teachers(bind_tasks(resolved), resolved, policy.prices).values()
    if not task.rubric:
        raise SettingsError(
            f"the task {task.name!r} has no rubric, so there is no judge to compare with --judgements; give --rubric"
        )
    check_roles(task.teachers.values(), policy)
    return JudgeCheck(task, resolved, policy, workspace, given)


def read_judgements(path: Path) -> list[GivenJudgement]:
    """Read given labels.

    Raises:
        DataError: the file cannot be read or is empty, or a row has another shape; the text names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--judgements {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    given = [_read_row(row, place) for place, row in read_json_rows(text, str(path))]
    if not given:
        raise DataError(f"--judgements {path} holds no rows; a row is {_SHAPE}")
    return given


def _read_row(row: Mapping[str, Any], place: str) -> GivenJudgement:
    texts = [row.get("input"), row.get("output"), row.get("reference") or ""]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{place}: a row is {_SHAPE}; the keys here are {', '.join(map(str, row)) or 'none'}")
    if ("score" in row) == ("right" in row):
        raise DataError(f"{place}: give either a score or right; a row is {_SHAPE}")
    if isinstance(right := row.get("right"), bool):
        score: Any = float(right)
    elif "right" in row:
        raise DataError(f"{place}: right is {_excerpt(right)}, but must be true or false")
    else:
        score = row["score"]
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise DataError(f"{place}: the score is {_excerpt(score)}, but must be a number from 0 to 1")
    return GivenJudgement(make_submission(*map(replace_surrogates, map(str, texts))), float(score))


def run_check(check: JudgeCheck, note: Callable[[str], None] = lambda text: None) -> CheckResult:
    """Let the judge judge all given answers, and compare.

    Args:
        check: what is compared.
        note: receives texts for the user.

    Raises:
        DsrlError: the judge cannot go on, or the budget is reached. The judgements so far are stored.
    """
    scores, spending = signals.call(partial(_judge_rows, check, note))
    agreement = measure_agreement(scores, [given.score for given in check.given])
    return describe_agreement(agreement, check.task.teachers["judge"].label, spending)


def _judge_rows(check: JudgeCheck, note: Callable[[str], None]) -> tuple[list[float | None], Spending]:
    async def work() -> tuple[list[float | None], Spending]:
        task, settings, roles = check.task, check.settings, check.task.teachers
        # Each check has a budget of its own; the replies are shared with all runs.
        run = f"check-{uuid.uuid4().hex}"
        ledger = Ledger(roles["judge"].plugin, check.workspace.reply_store, run, check.policy, note=note)
        try:
            instructor = Instructor(
                ledger, roles, 0.0, settings.teacher_max_tokens, retries_unreadable=settings.retries_unreadable
            )
            judge = Judge(instructor, task.definition.description, task.rubric)
            scores = await judge.try_judge(given.submission for given in check.given)
            return scores, ledger.get_spending()
        finally:
            await ledger.close()

    return signals.run(work())


def measure_agreement(judged: Sequence[float | None], given: Sequence[float]) -> Agreement:
    """Compare the scores of a judge with given scores.

    Args:
        judged: the scores of the judge; None where no judgement could be read.
        given: the given scores.
    """
    n = len(given)
    pairs = [(score or 0.0, own) for score, own in zip(judged, given, strict=True)]
    sides = [(score >= RIGHT_SCORE, own >= RIGHT_SCORE) for score, own in pairs]
    agreeing = sum(one == other for one, other in sides)
    low, high = compute_wilson(agreeing, n)
    judged_right, given_right = sum(one for one, _ in sides) / n, sum(other for _, other in sides) / n
    is_one_sided = given_right in (0.0, 1.0)
    chance = judged_right * given_right + (1 - judged_right) * (1 - given_right)
    return Agreement(
        rows=n,
        agreeing=agreeing,
        low=low,
        high=high,
        kappa=None if is_one_sided else (agreeing / n - chance) / (1 - chance),
        difference=sum(abs(score - own) for score, own in pairs) / n,
        unreadable=sum(score is None for score in judged),
    )


def compute_wilson(successes: int, draws: int) -> tuple[float, float]:
    """Compute Wilson's 95% interval of a share."""
    z, share = 1.959964, successes / draws
    middle = share + z * z / (2 * draws)
    half = z * math.sqrt(share * (1 - share) / draws + z * z / (4 * draws * draws))
    scale = 1 + z * z / draws
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def describe_agreement(agreement: Agreement, judge: str, spending: Spending) -> CheckResult:
    """Return the result of the check: it fails if the judge agrees with the labels no more than chance does."""
    kappa = agreement.kappa
    words = "not defined" if kappa is None else f"{kappa:.2f}"
    cost = dollars(spending.cost_usd) if spending.priced else "an unknown cost"
    message = (
        f"the judge {judge} agrees with {agreement.agreeing} of {count(agreement.rows, 'label')} at {RIGHT_SCORE}: "
        f"{agreement.share:.1%} (95% interval {agreement.low:.1%} to {agreement.high:.1%}), Cohen's kappa {words}, mean "
        f"absolute difference {agreement.difference:.2f}, {agreement.unreadable} unreadable; "
        f"{count(spending.calls, 'call')}, {cost}"
    )
    figures = {
        "agreement": agreement.share,
        "agreement_low": agreement.low,
        "agreement_high": agreement.high,
        "mean_absolute_difference": agreement.difference,
        "unreadable": float(agreement.unreadable),
        "labels": float(agreement.rows),
        "calls": float(spending.calls),
    }
    figures = {name: round(value, 4) for name, value in figures.items()}
    if kappa is not None:
        figures["cohens_kappa"] = round(kappa, 4)
    if spending.priced:
        figures["cost_usd"] = round(spending.cost_usd, 6)
    fault = (
        "the judge agrees with the given labels no more than chance does: write the rubric anew, or take another judge"
    )
    is_better = agreement.share > 0.5 if kappa is None else kappa > 0
    if is_better:
        warning = "all labels are on one side of 0.5, so the agreement says little" if kappa is None else ""
        return CheckResult(JUDGEMENTS, "passed", message, warning=warning, figures=figures)
    return CheckResult(JUDGEMENTS, "failed", f"1 fault: {fault}; {message}", (Finding(fault),), figures=figures)


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
