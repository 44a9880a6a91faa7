"""Labels that are suspected to be wrong, because the base model's attempts agree on another answer.

The votes of the teacher and the attempts of the base model are two judges of equal weight. From each, an answer gets its
share there: of the readable votes, and of all attempts. A label is *suspected* if another answer gets at least as much as
the label from both together. So a label of 60% of the votes, with a rival of 30%, is suspected if the share of the rival
in the attempts is at least 30 points larger than that of the label; one that all votes agree on only if all attempts give
one other answer. There is no threshold to choose.

A suspicion is no proof: the base model may make the same mistake every time. It costs nothing, because votes and attempts
are there anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dsrl.storage.listing import SampleDetails, SampleRow

_UNREADABLE = "unreadable"
#: Shares are sums of fractions: so much is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Suspect:
    """A sample whose label is suspected to be wrong.

    Attributes:
        id, kind, task, input, label: the sample.
        place: its place in the training set, from 1; None if it is not selected.
        rival: the answer that may be right instead.
        label_votes, rival_votes: share of the teacher's readable votes for either, 0 to 1.
        label_attempts, rival_attempts: share of the base model's attempts that give either, 0 to 1.
        attempts: number of attempts.
        excess: how much more the rival gets from both together; 0 to 2.
    """

    id: str
    kind: str
    task: str
    input: str
    label: str
    place: int | None
    rival: str
    label_votes: float
    rival_votes: float
    label_attempts: float
    rival_attempts: float
    attempts: int
    excess: float


def find_suspects(rows: Iterable[SampleRow], details: Mapping[str, SampleDetails]) -> list[Suspect]:
    """Return the samples whose label is suspected to be wrong, the most suspected first.

    Args:
        rows: samples; those without a label, votes or attempts are not judged.
        details: id of a sample -> its votes and attempts, from ``RunStore.list_details``.
    """
    suspects = [suspect for row in rows if (suspect := _judge(row, details[row.id])) is not None]
    return sorted(suspects, key=lambda suspect: (-suspect.excess, suspect.id))


def _judge(row: SampleRow, details: SampleDetails) -> Suspect | None:
    votes = {answer: count for answer, count in details.votes.items() if answer != _UNREADABLE}
    if row.label is None or not row.attempts or not votes:
        return None
    vote_count, label = sum(votes.values()), row.label
    vote_shares = {answer: count / vote_count for answer, count in votes.items()}
    # An answer that the task grades as right counts for the label, however it is written.
    passed = (row.passed or 0) / row.attempts
    shares = {
        answer: times / row.attempts
        for answer, times, is_right in details.answers
        if not is_right and answer not in (_UNREADABLE, "", label)
    }
    if not shares:
        return None
    rival = max(shares, key=lambda answer: (shares[answer] + vote_shares.get(answer, 0.0), answer))
    label_votes, rival_votes = vote_shares.get(label, 0.0), vote_shares.get(rival, 0.0)
    excess = rival_votes + shares[rival] - label_votes - passed
    if excess < -_ROUNDING:
        return None
    return Suspect(
        id=row.id,
        kind=row.kind,
        task=row.task,
        input=row.input,
        label=label,
        place=row.place,
        rival=rival,
        label_votes=label_votes,
        rival_votes=rival_votes,
        label_attempts=passed,
        rival_attempts=shares[rival],
        attempts=row.attempts,
        excess=max(0.0, excess),
    )
