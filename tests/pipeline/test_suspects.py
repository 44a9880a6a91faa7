"""Which labels are suspected to be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.pipeline.suspects import find_suspects
from dsrl.storage.listing import SampleDetails, SampleRow


def make_row(passed: int | None, attempts: int | None, sample_id: str = "1-0", **values: Any) -> SampleRow:
    fields = dict.fromkeys(SampleRow.__slots__) | {"id": sample_id, "iteration": 1, "kind": "initial", "label": "yes"}
    return SampleRow(**(fields | {"task": "", "input": "q", "passed": passed, "attempts": attempts} | values))


def judge(votes: dict[str, int], answers: list[tuple[str, int, bool]], **values: Any) -> list[Any]:
    attempts = sum(times for _, times, _ in answers)
    row = make_row(sum(times for _, times, right in answers if right), attempts, **values)
    return find_suspects([row], {row.id: SampleDetails(votes, answers, [])})


@pytest.mark.parametrize(
    ("votes", "answers", "is_suspected"),
    [
        ({"yes": 6, "no": 3, "maybe": 1}, [("no", 65, False), ("yes", 35, True)], True),  # 0.95 each
        ({"yes": 6, "no": 3, "maybe": 1}, [("no", 64, False), ("yes", 36, True)], False),
        ({"yes": 17}, [("no", 64, False)], True),
        ({"yes": 17}, [("no", 63, False), ("unreadable", 1, False)], False),
        ({"yes": 17}, [("no", 33, False), ("yes", 31, True)], False),
        ({"yes": 9, "no": 8}, [("no", 9, False), ("maybe", 10, False), ("yes", 1, True)], True),
        ({"yes": 9, "no": 8}, [("unreadable", 64, False)], False),
        ({"yes": 1, "unreadable": 16}, [("no", 8, False)], True),  # one readable vote against all attempts
    ],
)
def test_a_label_is_suspected_if_another_answer_gets_as_much_from_votes_and_attempts(
    votes: dict[str, int], answers: list[tuple[str, int, bool]], is_suspected: bool
) -> None:
    assert bool(judge(votes, answers)) is is_suspected


def test_what_is_said_of_a_suspect() -> None:
    (suspect,) = judge({"yes": 9, "no": 8}, [("no", 9, False), ("maybe", 10, False), ("yes", 1, True)], place=3)
    assert (suspect.rival, suspect.place, suspect.attempts) == ("no", 3, 20), "the votes are for no, not for maybe"
    assert suspect.excess == pytest.approx(8 / 17 + 9 / 20 - 9 / 17 - 1 / 20)
    assert (suspect.label_votes, suspect.rival_attempts) == (9 / 17, 9 / 20)


def test_an_answer_that_is_graded_as_right_counts_for_the_label_however_it_is_written() -> None:
    assert judge({"0.5": 17}, [("1/2", 64, True)], label="0.5") == []


def test_the_most_suspected_come_first_and_what_cannot_be_judged_is_left_out() -> None:
    rows = [
        make_row(0, 8, "weak"),
        make_row(0, 8, "strong"),
        make_row(0, 8, "unlabelled", label=None),
        make_row(None, None, "unscored"),
        make_row(0, 8, "unvoted"),
    ]
    answers = [("no", 8, False)]
    details = {row.id: SampleDetails({"yes": 2, "no": 1}, answers, []) for row in rows}
    details["weak"] = SampleDetails({"yes": 3, "no": 1}, [("no", 5, False), ("maybe", 3, False)], [])
    details["unvoted"] = SampleDetails({}, answers, [])
    assert [suspect.id for suspect in find_suspects(rows, details)] == ["strong", "weak"]
