"""A forecast from stored replies, and one from guesses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from run_contexts import edit_tasks

from dsrl.pipeline.forecast import Range, StageForecast, forecast_stages, sum_stages
from dsrl.pipeline.teachers import TeacherRoles
from dsrl.teaching.reply_store import CallStatistics
from dsrl.types import Price

NOTHING_KNOWN = dict.fromkeys(("keywords", "pattern", "write", "solve", "rewrite", "judge"))


def list_expected(forecasts: list[StageForecast]) -> dict[str, float]:
    return {stage.stage: stage.calls.expected for stage in forecasts}


def test_without_stored_replies_everything_is_a_guess(make_context: Any) -> None:
    forecasts = forecast_stages(make_context(samples=100, votes=16), NOTHING_KNOWN)
    calls = list_expected(forecasts)
    assert list(calls) == ["keywords", "initial", "verified", "adapted", "verified again"]
    assert (calls["keywords"], calls["initial"]) == (1, 100)
    assert {stage.basis for stage in forecasts} == {"guess"}
    assert all(r.low <= r.expected <= r.high for stage in forecasts for r in (stage.calls, stage.completion_tokens))


def test_domains_votes_and_adaptation_decide_the_stages(make_context: Any) -> None:
    context = edit_tasks(make_context(adapt=False, votes=0), domains=("medicine",))
    forecasts = forecast_stages(context, NOTHING_KNOWN)
    assert [stage.stage for stage in forecasts] == ["initial", "verified"]
    assert forecasts[1].calls == Range(0, 0, 0)


def test_a_teacher_with_one_reply_per_call_is_called_for_every_vote(make_context: Any) -> None:
    context = make_context(samples=100, votes=16)
    several = list_expected(forecast_stages(context, NOTHING_KNOWN))
    single: TeacherRoles = {purpose: replace(role, max_n=1) for purpose, role in context.teachers.items()}
    one = list_expected(forecast_stages(edit_tasks(context, teachers=single), NOTHING_KNOWN))
    assert one["verified"] > several["verified"] * 3


def test_stored_replies_make_the_forecast_surer(make_context: Any) -> None:
    context = make_context(samples=100)
    priced = {purpose: replace(role, price=Price(1, 1)) for purpose, role in context.teachers.items()}
    context = edit_tasks(context, teachers=priced)
    known = CallStatistics(
        calls=50, replies=50, prompt_tokens=400.0, completion_tokens=100.0, deviation=10.0, seconds=2.0
    )
    guess, sure = (
        next(stage for stage in forecast_stages(context, statistics) if stage.stage == "initial")
        for statistics in (NOTHING_KNOWN, {**NOTHING_KNOWN, "write": known})
    )
    assert sure.basis == "50 replies"
    assert sure.dollars is not None
    assert guess.dollars is not None
    assert sure.dollars.expected == pytest.approx(100 * 500 / 1e6)
    assert sure.dollars.high - sure.dollars.low < guess.dollars.high - guess.dollars.low


def test_the_whole_is_unknown_if_a_part_is(make_context: Any) -> None:
    context = make_context()
    forecasts = forecast_stages(context, NOTHING_KNOWN)
    total = sum_stages(forecasts, context.teachers)
    assert total["calls"]["expected"] == pytest.approx(sum(list_expected(forecasts).values()))
    unpriced = [replace(forecasts[0], dollars=None), *forecasts[1:]]
    assert sum_stages(unpriced, context.teachers)["dollars"] is None
    batched = [replace(forecasts[0], seconds=None), *forecasts[1:]]
    assert sum_stages(batched, context.teachers)["seconds"] is None


def test_judgements_are_forecast_stage_by_stage(make_context: Any) -> None:
    context = make_context(samples=100, select=50, attempts=8, epochs=2, group_size=4, eval_every=5, batch_size=10)
    judged = edit_tasks(context, rubric="Be brief.")
    forecasts = {stage.stage: stage for stage in forecast_stages(judged, NOTHING_KNOWN)}
    assert list(forecasts) == [
        "keywords",
        "initial",
        "adapted",
        "verified, judge",
        "verified again, judge",
        "attempted, judge",
        "scored, judge",
        "trained, judge",
        "evaluated, judge",
    ]
    assert forecasts["verified, judge"].calls == Range(100, 100, 100)
    assert forecasts["attempted, judge"].calls.expected == 85
    scored = 85 + 0.85 * 85
    assert forecasts["scored, judge"].calls.expected == pytest.approx(scored * 8 * 0.7)
    # 10 steps and an evaluation after 5, 10 and the last of them, at most.
    assert forecasts["trained, judge"].calls.expected == pytest.approx((50 * 2 * 4 + scored / 10 * 3) * 0.7)
    assert forecasts["evaluated, judge"].calls == Range(pytest.approx(0.4), pytest.approx(2.8), 4.0), "--test-size 2"
    assert all(stage.prompt_tokens.expected > 100 for name, stage in forecasts.items() if "judge" in name)
    total = sum_stages(list(forecasts.values()), judged.teachers)
    assert total["seconds"]["expected"] > forecasts["trained, judge"].seconds.expected


def test_a_run_with_one_judged_task_of_two_forecasts_votes_and_judgements(make_context: Any) -> None:
    context = make_context(samples=101, votes=4)
    (task,) = context.tasks.values()
    context = replace(context, tasks={"a": replace(task, rubric="Be brief."), "b": task})
    forecasts = {stage.stage: stage for stage in forecast_stages(context, NOTHING_KNOWN)}
    assert forecasts["verified, judge"].calls.expected == 51
    assert forecasts["verified"].completion_tokens.high == 50 * 4 * context.settings.teacher_max_tokens


def test_the_price_of_a_batch_holds_for_judgements_that_can_wait(make_context: Any) -> None:
    context = make_context(samples=10, batch=True)
    priced = {purpose: replace(role, price=Price(1, 1, batch=0.5)) for purpose, role in context.teachers.items()}
    judged = edit_tasks(context, rubric="Be brief.", teachers=priced)
    for stage in forecast_stages(judged, NOTHING_KNOWN):
        cost = (stage.prompt_tokens.expected + stage.completion_tokens.expected) / 1e6
        can_wait = stage.stage not in ("keywords", "trained, judge", "evaluated, judge")
        assert stage.dollars is not None
        assert stage.dollars.expected == pytest.approx(cost * (0.5 if can_wait else 1)), stage.stage
        assert (stage.seconds is None) == can_wait
