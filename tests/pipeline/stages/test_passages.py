from __future__ import annotations

from random import Random

from dsrl.pipeline.stages.passages import assign_passages, get_passage
from dsrl.types import Passage

PASSAGES = [Passage(str(number), "text") for number in range(20)]


def test_passages_are_shuffled_and_none_is_dealt_twice() -> None:
    dealt = assign_passages(PASSAGES, 20, Random(0))
    assert dealt != PASSAGES
    assert sorted(dealt, key=lambda passage: int(passage.id)) == PASSAGES
    assert assign_passages(PASSAGES, 20, Random(0)) == dealt
    assert assign_passages(PASSAGES, 20, Random(1)) != dealt


def test_no_more_are_dealt_than_wanted_or_there() -> None:
    assert len(assign_passages(PASSAGES, 5, Random(0))) == 5
    assert len(assign_passages(PASSAGES, 50, Random(0))) == 20
    assert assign_passages([], 5, Random(0)) == []


def test_too_few_passages_go_round_again() -> None:
    assert [get_passage(PASSAGES[:3], number) for number in range(5)] == [*PASSAGES[:3], *PASSAGES[:2]]
    assert get_passage([], 3) is None
