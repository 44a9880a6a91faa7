from __future__ import annotations

from random import Random

from dsrl.records import Passage
from dsrl.stages.passages import deal, passage_of

PASSAGES = [Passage(str(number), "text") for number in range(20)]


def test_passages_are_shuffled_and_none_is_dealt_twice() -> None:
    dealt = deal(PASSAGES, 20, Random(0))
    assert dealt != PASSAGES
    assert sorted(dealt, key=lambda passage: int(passage.id)) == PASSAGES
    assert deal(PASSAGES, 20, Random(0)) == dealt
    assert deal(PASSAGES, 20, Random(1)) != dealt


def test_no_more_are_dealt_than_wanted_or_there() -> None:
    assert len(deal(PASSAGES, 5, Random(0))) == 5
    assert len(deal(PASSAGES, 50, Random(0))) == 20
    assert deal([], 5, Random(0)) == []


def test_too_few_passages_go_round_again() -> None:
    assert [passage_of(PASSAGES[:3], number) for number in range(5)] == [*PASSAGES[:3], *PASSAGES[:2]]
    assert passage_of([], 3) is None
