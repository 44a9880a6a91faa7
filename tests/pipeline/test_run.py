"""The order of the stages, and where a command stops."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.pipeline import run as pipeline
from dsrl.pipeline.run import run_pipeline
from dsrl.storage import STAGES

FUNCTIONS = (
    *("open_index", "name_keywords", "retrieve_passages", "find_pattern", "make_samples"),
    *("select_samples", "train_model", "evaluate_models"),
)
#: Function -> the stage after which a command that ends there does not call it any more.
LAST = {
    "keywords": 2,
    "passages": 3,
    "pattern": 4,
    "initial": 5,
    "scored": 5,
    "selected": 6,
    "trained": 7,
    "evaluated": 8,
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Replace the stages by functions that record their calls as (name, iteration)."""
    recorded: list[tuple[str, Any]] = []
    monkeypatch.setattr(pipeline, "write_model_card", lambda run: None)
    for name in FUNCTIONS:
        monkeypatch.setattr(pipeline, name, lambda run, *args, name=name: recorded.append((name, args[:1])))
    return recorded


@pytest.mark.parametrize("stage", LAST)
def test_a_command_runs_the_stages_in_order_up_to_its_last(make_run: Any, calls: Any, stage: str) -> None:
    assert run_pipeline(make_run(stage)) == (stage == STAGES[-1])
    assert [name for name, _ in calls] == list(FUNCTIONS[: LAST[stage]])


def test_iterations_follow_each_other_and_the_evaluation_comes_once(make_run: Any, calls: Any) -> None:
    run = make_run(iterations=2)
    assert run_pipeline(run)
    one = [(name, (1,)) for name in FUNCTIONS[:-1]]
    assert calls == [*one, *((name, (2,)) for name, _ in one), ("evaluate_models", ())]
    assert "total" in run.store.seconds()


def test_stop_after_trained_means_the_last_training(make_run: Any, calls: Any) -> None:
    assert not run_pipeline(make_run("trained", iterations=2))
    assert calls[-1] == ("train_model", (2,))


def test_the_seconds_are_stored_when_a_stage_fails(make_run: Any, calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(pipeline, "find_pattern", fail)
    run = make_run()
    with pytest.raises(RuntimeError, match="broken"):
        run_pipeline(run)
    assert "total" in run.store.seconds()
