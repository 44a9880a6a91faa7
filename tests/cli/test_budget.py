"""A run that reaches its budget continues with the samples that it has; with a larger budget, it continues fully."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

TEACHER = """
from dataclasses import replace
from dsrl import hookimpl
from dsrl.types import Price, Usage
from dsrl_procedural import ProceduralTeacher


class Paid(ProceduralTeacher):
    @hookimpl
    async def complete(self, request):
        given = await super().complete(request)
        return replace(given, usage=Usage(100, 100 * request.n))

    @hookimpl
    def price(self, model):
        return Price(1.0, 1.0)

"""


def test_the_run_goes_on_with_what_is_paid_for_and_later_with_more(dsrl: Any, small: Any, install: Any) -> None:
    module = install("teacher", "paying", TEACHER, distribution="payer")
    install("teacher", "bill", "", distribution="biller", value=f"{module}:Paid")
    short = (*small, "--teacher", "bill", "--teacher-max-tokens", "200", "--test-size", "10")
    outcome = dsrl(*short, "--budget", "0.02", "--json")
    assert outcome.code == 0, outcome.err
    assert "the budget of $0.02 is reached" in outcome.err
    first = json.loads(outcome.out)
    assert 0 < first["cost_usd"] <= 0.02
    assert first["samples"]["dropped"]["budget"] > 0
    assert first["trained_accuracy"] is not None, "it went on down the road"
    assert sum(line["cost_usd"] for line in first["spending"]) == pytest.approx(first["cost_usd"])

    more = json.loads(dsrl(*short, "--budget", "5", "--json").out)
    assert "budget" not in more["samples"]["dropped"]
    assert more["samples"]["initial"] == 24
    assert more["samples"]["scored"] > first["samples"]["scored"]
    assert more["samples"]["selected"] == 16
    assert more["budget_usd"] == 5.0
    again = json.loads(dsrl(*short, "--budget", "5", "--json").out)
    assert again["cost_usd"] == more["cost_usd"], "nothing is counted twice"
    text = dsrl("show", "small").out
    assert "$5.00" in text
    assert "rewrite" in text


def test_the_money_is_shown_while_the_run_is_under_way(
    dsrl: Any, small: Any, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install("teacher", "paying", TEACHER, distribution="payer")
    install("teacher", "bill", "", distribution="biller", value=f"{module}:Paid")
    monkeypatch.setattr("dsrl.pipeline.progress.LineProgress.every", 0.0)
    outcome = dsrl(*small, "--teacher", "bill", "--budget", "5", "--stop-after", "verified")
    assert re.search(r"^initial 24/24 .* calls, \$0\.\d+ of \$5\.00$", outcome.err, re.MULTILINE), outcome.err
    outcome = dsrl(*small, "--name", "free", "--stop-after", "verified")
    assert "$" not in outcome.err, "the teacher costs nothing"


def test_a_budget_below_the_first_call_is_a_sentence(dsrl: Any, small: Any) -> None:
    outcome = dsrl(*small, "--price", "procedural=1,1", "--budget", "0.0001")
    assert outcome.code == 2
    assert "--budget 0.0001 is not enough for the first call, which may cost up to $0.00" in outcome.err
    assert not Path("runs").exists(), "it is said before any work"
    assert not Path(".dsrl").exists()
    flags = ("--domain", "fever", "--price", "procedural=1,1")
    assert "not enough for the first call" in dsrl(*small, *flags, "--budget", "0.0001").err
    assert dsrl(*small, "--price", "procedural=0,0", "--budget", "0", "--stop-after", "initial").code == 0
    # Its replies are stored now, so another run can use them without paying.
    other = dsrl(*small, "--name", "other", "--price", "procedural=1,1", "--budget", "0", "--stop-after", "initial")
    assert other.code == 0, other.err


def test_bad_money_is_told(dsrl: Any, small: Any) -> None:
    for flags, words in (
        (("--budget", "-1"), "--budget is -1.0, but must be at least 0"),
        (("--budget", "nan"), "--budget is nan"),
        (("--price", "m=a,1"), "'a' is not a valid price"),
        (("--price", "m"), "does not have the form MODEL=PROMPT,COMPLETION"),
        (("--price", "m=-1,1"), "'-1' is not a valid price"),
        (("--price", "m=1,1"), "--price is given for 'm', but the teachers of this run are procedural; give the price"),
        (("--price", "m=1,1", "--price", " m = 2, 2"), "there are two prices for 'm'"),
        (("--budget", "five"), "Invalid value for '--budget': 'five' is not a valid float"),
        (("--budget", ""), "Invalid value for '--budget'"),
    ):
        outcome = dsrl(*small, *flags)
        assert outcome.code == 2
        assert words in outcome.err
