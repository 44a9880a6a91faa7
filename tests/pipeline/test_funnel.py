from __future__ import annotations

from dsrl.pipeline.funnel import list_funnel
from dsrl.storage.run_store import SampleCounts


def test_rows_that_are_zero_are_left_out_and_reasons_are_words() -> None:
    counts = SampleCounts(
        initial=9,
        verified=7,
        solved=3,
        unsolved=4,
        harder=3,
        easier=2,
        scored=12,
        contaminated=0,
        duplicates=1,
        held_out=0,
        selected=5,
        dropped={"no_majority": 2, "budget": 1},
    )
    rows = {name: (number, meaning) for name, number, meaning in list_funnel(counts)}
    assert rows["initial"][0] == "9"
    assert rows["solved / unsolved"][0] == "3 / 4"
    assert rows["duplicates"][0] == "1"
    assert rows["dropped"] == ("3", "2 no majority, 1 budget")
    assert not {"contaminated", "held out"} & set(rows)
