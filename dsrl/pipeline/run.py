"""The pipeline: the paper's Algorithm 1, stage by stage. Each stage continues from the results that are already stored.

What a stage does is in :mod:`dsrl.pipeline.stages`. The five stages from ``initial`` to ``scored`` overlap, so that the
base model works while the teacher's replies are on their way (:mod:`dsrl.pipeline.slots`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from dsrl.pipeline.attempt_review import review_attempts
from dsrl.pipeline.forecast import forecast_stages, load_statistics
from dsrl.pipeline.given_data import select_given_items
from dsrl.pipeline.model_card import write_model_card
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.slots import SLOT_STAGES, make_samples
from dsrl.pipeline.stages.evaluated import evaluate_models
from dsrl.pipeline.stages.keywords import name_keywords
from dsrl.pipeline.stages.passages import open_index, retrieve_passages
from dsrl.pipeline.stages.pattern import find_pattern
from dsrl.pipeline.stages.selected import select_samples
from dsrl.pipeline.stages.trained import train_model
from dsrl.storage import STAGES


def run_pipeline(run: OpenRun, slots: int | None = None) -> bool:
    """Run the pipeline up to the last stage of this command.

    Args:
        run: the open run.
        slots: make only the samples of the first so many slots; None: of all. The run continues from them later.

    Returns:
        Whether the last stage of the pipeline was reached.

    Raises:
        DsrlError: something that the user can correct; the same command then continues.
    """
    try:
        with run.clock.measure("total"):
            for stage in _run_stages(run, slots):
                run.save_seconds()
                if stage == run.context.stop_after:
                    break
    finally:
        run.save_seconds()
    return run.context.stop_after == STAGES[-1]


def _run_stages(run: OpenRun, slots: int | None) -> Iterator[str]:
    """Run one stage after the other, and yield the name of each when it is finished."""
    iterations = run.settings.iterations
    if run.store.data:  # dsrl train
        select_given_items(run)
        yield "selected"
        train_model(run, 1)
        write_model_card(run)
        yield "trained"
        iterations = 0
    else:
        _keep_forecast(run)
    for iteration in range(1, iterations + 1):
        if iterations > 1:
            run.progress.start_iteration(iteration, iterations)
        index = open_index(run, iteration)  # before the first call of a teacher: the library may be broken
        name_keywords(run, iteration)
        yield "keywords"
        retrieve_passages(run, iteration, index)
        yield "passages"
        find_pattern(run, iteration)
        yield "pattern"
        make_samples(run, iteration, slots)
        review_attempts(run, iteration)
        yield from SLOT_STAGES
        select_samples(run, iteration)
        yield "selected"
        train_model(run, iteration)
        if iteration == iterations:  # --stop-after trained means the last training
            write_model_card(run)
            yield "trained"
    evaluate_models(run)
    write_model_card(run)
    yield "evaluated"


def _keep_forecast(run: OpenRun) -> None:
    """Store, before the first call of the run, what it was expected to ask for: the report compares it with what it did."""
    if not run.store.stages.has_reached("keywords"):
        stages = forecast_stages(run.context, load_statistics(run.context))
        run.store.keep_forecast([asdict(stage) for stage in stages])
