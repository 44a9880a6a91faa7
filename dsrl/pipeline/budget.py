"""What the budget of a run means to the pipeline, and how spending is described.

The ledger (:mod:`dsrl.teaching.budget`) refuses a call that the rest of the budget may not pay for. The pipeline leaves the
row of that call out and continues with the others; the same command with a larger budget completes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from dsrl.errors import BudgetReached
from dsrl.teaching.budget import describe_budget_reached
from dsrl.teaching.pricing import dollars
from dsrl.teaching.reply_store import Spending

#: Stage -> what happened to the rows that the budget did not pay for.
_UNPAID = {
    "initial": "not written",
    "verified": "not verified",
    "attempted": "without a judged attempt",
    "adapted": "not rewritten",
    "scored": "without a score",
}


def describe_unpaid(budget: float, unpaid: Mapping[str, int], details: str = "") -> str:
    """Return a text for the user about the rows that the budget did not pay for.

    Args:
        budget: dollars.
        unpaid: stage -> number of rows.
        details: a clause that is appended to the list of rows.
    """
    rows = ", ".join(f"{count} {_UNPAID[stage]}" for stage, count in unpaid.items())
    return describe_budget_reached(budget, rows + details)


def check_unpaid(budget: float, unpaid: Mapping[str, int], is_last_iteration: bool, has_samples: bool) -> None:
    """Refuse to continue without the rows that the budget did not pay for, if the later stages need them.

    Args:
        budget: dollars.
        unpaid: stage -> number of rows.
        is_last_iteration: whether no other iteration starts from the result of this one.
        has_samples: whether there are samples to continue with.

    Raises:
        BudgetReached: the run cannot continue.
    """
    if not is_last_iteration:
        # A larger budget would train this iteration again, and everything that the next iteration made would be lost.
        raise BudgetReached(describe_unpaid(budget, unpaid, ", and another iteration follows"))
    if not has_samples:
        raise BudgetReached(describe_unpaid(budget, unpaid, ", and there are no samples to continue with"))


def describe_spending(spending: Spending, budget: float | None) -> str:
    """Return what the calls of a run have cost; empty if they cost nothing."""
    if spending.priced and not spending.cost_usd:
        return ""
    parts = ["1 call" if spending.calls == 1 else f"{spending.calls} calls"]
    if spending.cost_usd:
        parts.append(dollars(spending.cost_usd) + (f" of {dollars(budget)}" if budget is not None else ""))
    if spending.unpriced:
        parts.append("and calls of unknown price" if spending.cost_usd else "price unknown")
    if spending.unknown_bills:
        parts.append(describe_unknown_bills(spending.unknown_bills))
    return ", ".join(parts)


def describe_unknown_bills(calls: int) -> str:
    """Return the text for calls whose bill the provider did not report."""
    return f"bill of {calls} call{'' if calls == 1 else 's'} not known"
