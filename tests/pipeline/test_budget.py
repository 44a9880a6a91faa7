"""What is said if the budget does not pay for everything, and when the run ends there."""

from __future__ import annotations

import pytest

from dsrl.errors import BudgetReached
from dsrl.pipeline.budget import check_unpaid, describe_unpaid


def test_unpaid_rows_are_described_and_end_the_run_only_if_they_are_needed() -> None:
    unpaid = {"initial": 3, "verified": 1}
    text = describe_unpaid(0.5, unpaid)
    assert text.startswith(
        "the budget of $0.50 is reached: 3 not written, 1 not verified. The same command with a larger"
    )
    check_unpaid(0.5, unpaid, is_last_iteration=True, has_samples=True)
    with pytest.raises(BudgetReached, match="another iteration follows"):
        check_unpaid(0.5, unpaid, is_last_iteration=False, has_samples=True)
    with pytest.raises(BudgetReached, match="no samples to continue with"):
        check_unpaid(0.5, unpaid, is_last_iteration=True, has_samples=False)
