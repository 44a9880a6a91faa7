"""The requests of a run without a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from run_contexts import edit_tasks

from dsrl.pipeline.dry_run import make_first_judge_request, make_first_request, measure_prompts
from dsrl.types import Example


def test_the_first_request_is_that_of_the_first_stage_that_asks(make_context: Any) -> None:
    context = make_context()
    assert make_first_request(context).purpose == "keywords"
    context = edit_tasks(context, domains=("medicine",))
    request = make_first_request(context)
    assert (request.purpose, request.max_tokens) == ("write", context.settings.teacher_max_tokens)
    with_demos = edit_tasks(context, {"demos": (Example("i", "o"),)})
    assert make_first_request(with_demos).purpose == "pattern"


def test_prompts_are_measured_for_every_purpose_that_asks(make_context: Any) -> None:
    context = make_context()
    sizes = measure_prompts(context)
    assert set(sizes) == set(context.teachers)
    assert sizes["pattern"] == 0, "there are no demonstrations"
    assert sizes["write"] > 2048, "the passage is part of it"
    assert measure_prompts(make_context(passages=0))["write"] < sizes["write"] - 1900
    long = edit_tasks(context, {"demos": (Example("i" * 5000, "o"),)})
    assert measure_prompts(long)["solve"] > 5000


def test_the_request_to_a_judge_is_made_and_measured(make_context: Any) -> None:
    context = make_context()
    assert make_first_judge_request(context) is None
    assert measure_prompts(context)["judge"] == 0
    judged = edit_tasks(context, rubric="Be brief. " * 100)
    request = make_first_judge_request(judged)
    assert request is not None
    assert (request.purpose, request.temperature) == ("judge", 0.0)
    assert measure_prompts(judged)["judge"] > 1000
    (task,) = judged.tasks.values()
    mixed = replace(judged, tasks={"a": task, "b": replace(task, rubric="")})
    assert measure_prompts(mixed)["judge"] == measure_prompts(judged)["judge"], "the mean over the judged tasks"
