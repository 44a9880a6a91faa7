"""When a budget is refused, and what is said if it does not pay for everything."""

from __future__ import annotations

import pytest

from dsrl.errors import BudgetReached, SettingsError, TeacherError
from dsrl.pipeline.budget import check_first_call, check_price, check_unpaid, describe_unpaid
from dsrl.types import Message, Price, Request

REQUEST = Request("keywords", "m", (Message("user", "x" * 1000),), 0.7, 1000)


def test_a_budget_needs_prices() -> None:
    check_price(None, None, "m")
    check_price(1.0, Price(1, 1), "m")
    with pytest.raises(TeacherError, match=r"price of 'm' is not known.*--price m=PROMPT,COMPLETION"):
        check_price(0.0, None, "m")


def test_a_budget_below_the_first_call_is_refused() -> None:
    check_first_call(None, Price(1e6, 1e6), REQUEST, "t:m")
    check_first_call(0.0, Price(0, 0), REQUEST, "t:m")
    with pytest.raises(
        SettingsError, match=r"--budget 0.001 is not enough for the first call.*t:m, replies of up to 1000"
    ):
        check_first_call(0.001, Price(0, 10), REQUEST, "t:m")
    check_first_call(0.006, Price(0, 10, batch=0.5), REQUEST, "t:m", batch=True)


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
