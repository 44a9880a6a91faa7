from __future__ import annotations

import pytest

from dsrl.pipeline.compare import _find_difference as find_difference
from dsrl.pipeline.compare import adjust_holm, compute_mcnemar, format_p
from dsrl.storage.evaluations import EvalItem

SCIPY_VALUES = {(1, 9): 0.021484375, (0, 0): 1.0, (5, 5): 1.0, (0, 6): 0.03125, (2, 3): 1.0}


@pytest.mark.parametrize(("lost", "gained"), list(SCIPY_VALUES))
def test_the_exact_mcnemar_test(lost: int, gained: int) -> None:
    first = {n: n < lost or n >= lost + gained for n in range(lost + gained + 5)}
    second = {n: n >= lost for n in first}
    assert compute_mcnemar(first, second) == pytest.approx(SCIPY_VALUES[lost, gained])
    assert compute_mcnemar(second, first) == pytest.approx(SCIPY_VALUES[lost, gained])


def test_holm_adjusts_in_the_order_of_the_values() -> None:
    # The example of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([]) == []
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0]


def test_what_differs_between_test_sets_is_said() -> None:
    items = [EvalItem("a", "yes"), EvalItem("b", "no")]
    assert find_difference(items, list(items)) == ""
    assert "one has 2 test items and the other 1" in find_difference(items, items[:1])
    assert "in its label, is item 1" in find_difference(items, [items[0], EvalItem("b", "yes")])
    assert "in its input, is item 0" in find_difference(items, [EvalItem("c", "yes"), items[1]])
    assert "without test items" in find_difference([], items)


def test_a_small_p_has_no_false_digits() -> None:
    assert [format_p(p) for p in (1.0, 0.0327, 0.0001, 0.00009, 0.0)] == [
        "1",
        "0.033",
        "0.0001",
        "< 0.0001",
        "< 0.0001",
    ]
