"""``dsrl eval --task T --base-model M``: the accuracy of one model on the test items of a task, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline import signals
from dsrl.pipeline.judge_agreement import compute_wilson
from dsrl.pipeline.progress import Progress
from dsrl.pipeline.run_tasks import RunTasks, bind_tasks, list_judged
from dsrl.pipeline.sampling import AnsweringModel, bind_sampler, close_sampler, decide_chat
from dsrl.pipeline.stages.evaluated import evaluate_in_batches, load_all_items
from dsrl.plugins.base_models import resolve_model
from dsrl.settings import Settings
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.types import UNREADABLE


@dataclass(frozen=True)
class ModelAccuracy:
    """How a model answers the test items of a task.

    Attributes:
        task: the name of the task, or the names.
        model: the model as the user named it.
        n_test: the number of items.
        accuracy: the share of right greedy answers.
        ci95: Wilson's 95% interval of it.
        unreadable: the number of answers that could not be read.
    """

    task: str
    model: str
    n_test: int
    accuracy: float
    ci95: tuple[float, float]
    unreadable: int


def evaluate_model(settings: Settings, progress: Progress) -> ModelAccuracy:
    """Let a model answer the test items of the tasks greedily.

    Args:
        settings: the tasks and their data, the base model, and how it is asked. Nothing is stored.
        progress: shows how many items are answered.

    Raises:
        DsrlError: something is wrong with the settings, the data or the model.
    """
    tasks = bind_tasks(settings)
    if judged := list_judged(tasks):
        raise SettingsError(
            f"the task {tasks[judged[0]].name!r} is judged by a teacher, which this command does not ask; evaluate it in a "
            "run (`dsrl run`, `dsrl eval RUN`)"
        )
    items = load_all_items(tasks, settings.test_size)
    if not items:
        raise DataError(f"the task {', '.join(settings.task)} has no test set of its own; give one with --dataset-path")
    evaluations = signals.run(_evaluate(settings, tasks, items, progress))
    right = sum(evaluation.correct for evaluation in evaluations)
    return ModelAccuracy(
        task=", ".join(settings.task),
        model=settings.base_model,
        n_test=len(items),
        accuracy=right / len(items),
        ci95=compute_wilson(right, len(items)),
        unreadable=sum(evaluation.answer is UNREADABLE for evaluation in evaluations),
    )


async def _evaluate(
    settings: Settings, tasks: RunTasks, items: Sequence[EvalItem], progress: Progress
) -> list[Evaluation]:
    evaluations: list[Evaluation] = []
    location = resolve_model(settings.base_model).location
    async with close_sampler(bind_sampler(settings, location)) as sampler:
        is_chat = decide_chat(settings, sampler, location)
        tasks = {key: replace(t, definition=replace(t.definition, is_chat=is_chat)) for key, t in tasks.items()}
        prompts = [tasks[item.task].definition.make_prompt(item.input) for item in items]
        if sampler.implements("check"):
            sampler.hook.check(prompts=prompts[:50], max_tokens=settings.max_completion_tokens)
        model = AnsweringModel(sampler, tasks, settings.max_completion_tokens, {}, progress.set_status)
        progress.start("evaluated", len(items))
        async for batch in evaluate_in_batches(model, "base", list(enumerate(items))):
            evaluations += batch
            progress.advance("evaluated", len(batch))
        progress.finish("evaluated")
    return evaluations
