"""Evaluation: the base and the trained model answer the same test items, and are compared item by item."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice

from dsrl.datasets import Columns
from dsrl.errors import BudgetReached, DataError, RowRefused
from dsrl.pipeline import signals
from dsrl.pipeline.concurrency import run_together
from dsrl.pipeline.contamination import compare_training
from dsrl.pipeline.judging import JudgeCounts
from dsrl.pipeline.run_tasks import RunTasks
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.sampling import AnsweringModel
from dsrl.pipeline.stages.trained import ParquetRow, write_parquet
from dsrl.pipeline.task_data import label_items, load_examples, normalise
from dsrl.plugins.binding import Plugin
from dsrl.plugins.scoring import grade
from dsrl.plugins.specs import TaskSpec
from dsrl.storage.evaluations import EvalItem, Evaluation
from dsrl.storage.stages import WHOLE_RUN
from dsrl.types import UNREADABLE, Message

#: Test items per call of the sampler.
BATCH_SIZE = 256
#: A model that gives one answer to this share of the items, and to more items than it is right for by this share of all,
#: is reported; not if there are fewer items.
_ONE_ANSWER, _SPARE, _FEWEST_ITEMS = 0.9, 0.2, 10


def evaluate_models(run: OpenRun) -> None:
    """Let both models answer the test items that they have not answered yet.

    Without a test set, nothing happens: the same command evaluates when it is given one.
    """
    if not run.context.test_items:
        return
    _store_items(run)
    compare_training(run)
    store, settings = run.store, run.settings
    items = store.items()
    models = {"base": run.context.base_model, "trained": str(run.context.get_output_folder(settings.iterations))}
    answered = {name: store.evaluations(name) for name in models}
    done = sum(map(len, answered.values()))
    if done < len(models) * len(items):
        run.progress.start("evaluated", len(models) * len(items), done)
        counts = JudgeCounts()
        try:
            for name, model in models.items():
                missing = [(number, item) for number, item in enumerate(items) if number not in answered[name]]
                if missing:
                    with run.clock.measure("evaluated"):
                        signals.run(_evaluate_model(run, name, model, missing, counts))
        finally:
            run.warn_of_judgements("evaluated", WHOLE_RUN, counts)
        run.progress.finish("evaluated")
    store.stages.finish(WHOLE_RUN, "evaluated")
    _warn_of_one_answer(run)


async def _evaluate_model(
    run: OpenRun, name: str, model: str, items: Sequence[tuple[int, EvalItem]], counts: JudgeCounts
) -> None:
    async with run.open_judges(counts) as judges, run.open_model(model, judges) as answering:
        async for evaluations in evaluate_in_batches(answering, name, items):
            run.store.add_evaluations(evaluations)
            run.advance("evaluated", len(evaluations))


def evaluate_teacher(run: OpenRun) -> None:
    """Let the teacher that votes answer the test items, once each, as a baseline; stored replies are free.

    If the budget does not pay for all of them, the user is told, and the others are kept.

    Raises:
        DataError: there are no test items, or the task is judged, so that no rule grades the answers.
    """
    items = run.store.items()
    judged = [task.name for task in run.context.tasks.values() if task.rubric]
    if not items or judged:
        reason = f"the answers to the task {judged[0]} are judged" if judged else "the run has no test items"
        raise DataError(f"the teacher cannot be evaluated: {reason}")
    answered = run.store.evaluations("teacher")
    missing = [(number, item) for number, item in enumerate(items) if number not in answered]
    if not missing:
        return
    unpaid = signals.run(_ask_teacher(run, missing))
    if unpaid:
        run.add_note(
            f"the teacher has not answered {unpaid} of {len(items)} test items: the budget does not pay for them"
        )


async def _ask_teacher(run: OpenRun, items: Sequence[tuple[int, EvalItem]]) -> int:
    """Ask the teacher for its answers; return how many items the budget does not pay for."""
    tasks, unpaid = run.context.tasks, 0

    async def answer(number: int, item: EvalItem) -> Evaluation | None:
        nonlocal unpaid
        messages = (Message("user", tasks[item.task].definition.make_question(item.input)),)
        try:
            (reply,) = await instructors[item.task].ask("solve", messages, {"input": item.input})
        except BudgetReached:
            unpaid += 1
            return None
        except RowRefused:
            return Evaluation("teacher", number, "", UNREADABLE, False)
        return Evaluation(
            "teacher", number, reply.text, *grade(tasks[item.task].plugin, reply.text, item.label, item.input)
        )

    async with run.open_instructors() as instructors:
        for start in range(0, len(items), BATCH_SIZE):
            answers = await run_together([answer(*pair) for pair in items[start : start + BATCH_SIZE]])
            run.store.add_evaluations([each for each in answers if each is not None])
    return unpaid


def _store_items(run: OpenRun) -> None:
    """Store the test items. If they have changed, only the items that a model has not answered are left to do."""
    items, store = run.context.test_items, run.store
    assert items is not None, "setup loads the test items of every command that evaluates"
    before = store.items()
    path = store.folder / "data" / "test.parquet"
    if list(items) != before or not path.is_file():
        tasks = run.context.tasks
        rows = [
            ParquetRow(task.name, task.definition.make_prompt(i.input), i.input, i.label, bool(task.rubric))
            for i in items
            for task in [tasks[i.task]]
        ]
        write_parquet(path, "test", rows)
    if list(items) != before:
        store.replace_items(items)
        if before:
            answered = set(store.evaluations("base")) & set(store.evaluations("trained"))
            run.add_note(
                f"the test items have changed ({len(before)} before, {len(items)} now); both models answer the "
                f"{len(items) - len(answered)} that are new to them"
            )
    _warn_about_shared_items(run, items)


def _warn_about_shared_items(run: OpenRun, items: Sequence[EvalItem]) -> None:
    """Warn the user if the best model was chosen by items that are test items now: other test data was given later."""
    iterations = range(1, run.settings.iterations + 1)
    dev_inputs = {normalise(item.input) for n in iterations for item in run.store.dev_items(n) if item.sample is None}
    shared = sum(normalise(item.input) in dev_inputs for item in items)
    if shared:
        run.add_warning(
            f"{shared} of the {len(items)} test items were development items of the training (--eval-data train), and the "
            "best model was chosen by them: its accuracy is too high. Give other test items with --dataset-path",
            f"evaluated-0:shared {shared} of {len(items)}",
        )


def _warn_of_one_answer(run: OpenRun) -> None:
    """Warn the user if the trained model answers nearly everything in the same way: it has hardly learned the task."""
    rows = run.store.list_item_rows()
    for key, task in run.context.tasks.items():
        own = [row for row in rows if row.task == key]
        answers = Counter(row.trained_answer for row in own if row.trained_answer is not None)
        if not answers or len(own) < _FEWEST_ITEMS:
            continue
        answer, times = answers.most_common(1)[0]
        right = sum(row.label == answer for row in own)
        if times >= _ONE_ANSWER * len(own) and right < times - _SPARE * len(own):
            of_task = f" of the task {task.name}" if key else ""
            run.add_warning(
                f"the trained model answers {answer[:80]!r} to {times} of the {len(own)} test items{of_task}, and it is the "
                f"answer of {right}: it has learned to give one answer, more than to solve the task. `dsrl show` has the "
                "labels of the training set; --balance keeps them in proportion, and more samples help",
                f"evaluated-0:one answer {key} {times} of {len(own)}",
            )


def load_all_items(tasks: RunTasks, size: int) -> list[EvalItem]:
    """Load the test items of all tasks of a run; a task without a test set has none.

    Args:
        tasks: the tasks of the run.
        size: the number of items to load of each; 0 for all.

    Raises:
        DataError: as in :func:`load_items`.
    """
    return [
        item
        for key, task in tasks.items()
        for item in load_items(task.plugin, task.dataset_path, size, key, task.columns)
    ]


def load_items(
    task: Plugin[TaskSpec], path: str, size: int, key: str = "", columns: Columns | None = None
) -> list[EvalItem]:
    """Load the test split of one task.

    Args:
        task: reads the data and the labels.
        path: the value of ``--dataset-path``; empty for the task's own data.
        size: the number of items to load; 0 for all.
        key: the name of the task for the items; empty in a run of one task.
        columns: the columns that the user has named.

    Returns:
        The items; none if the task has no test set of its own and no path is given.

    Raises:
        DataError: the test set is empty, or the gold answer of an item cannot be read.
    """
    examples = load_examples(task, path, "test", columns)
    if examples is None:
        return []
    name = f"the test set {path}" if path else f"the test set of the task {task.name!r}"
    labelled = label_items(task, islice(examples, size or None), name)
    items = [EvalItem(example.input, label, key, example.domain) for example, label in labelled]
    if not items:
        raise DataError(f"{name} is empty")
    return items


async def evaluate_in_batches(
    model: AnsweringModel, name: str, items: Sequence[tuple[int, EvalItem]]
) -> AsyncIterator[list[Evaluation]]:
    """Let a model answer test items greedily, and yield the answers batch by batch; see :func:`evaluate`."""
    for start in range(0, len(items), BATCH_SIZE):
        yield await evaluate(model, name, items[start : start + BATCH_SIZE])


async def evaluate(model: AnsweringModel, name: str, items: Sequence[tuple[int, EvalItem]]) -> list[Evaluation]:
    """Let a model answer test items greedily.

    Args:
        model: the model.
        name: ``base`` or ``trained``.
        items: the test items with their numbers.
    """
    texts = [text for (text,) in await model.answer([item for _, item in items])]
    graded = await model.grade([(item, text, item.label) for (_, item), text in zip(items, texts, strict=True)])
    return [
        Evaluation(name, number, text, answer, correct)
        for (number, _), text, (answer, correct) in zip(items, texts, graded, strict=True)
    ]


def compute_gain(base: Mapping[int, bool], trained: Mapping[int, bool]) -> tuple[float, tuple[float, float]]:
    """Compute the gain in accuracy of two models on the same items, and its 95% confidence interval.

    The interval is that of Bonett and Price (2012) for paired proportions: Wald's interval on the two counts of
    disagreement, with one added to each. It keeps its level for small counts, also if the models never disagree.

    Args:
        base: number of an item -> whether the base model answered it correctly.
        trained: the same for the trained model.

    Returns:
        Trained minus base, and (low, high); all between -1 and 1.

    Raises:
        ValueError: the models have answered different items, or none.
    """
    return compute_mean_gain([(base, trained)])


def compute_mean_gain(
    pairs: Sequence[tuple[Mapping[int, bool], Mapping[int, bool]]],
) -> tuple[float, tuple[float, float]]:
    """Compute the mean of the gains on several sets of items, and its 95% confidence interval.

    The sets are independent, so the variances of their gains add up. For one set, this is :func:`compute_gain`.

    Args:
        pairs: for each set, item -> whether the answer is correct, of the base model and of the trained model.

    Raises:
        ValueError: there is no set, or both models have not answered the same items of a set.
    """
    gains, centres, variances = [], [], []
    for base, trained in pairs:
        if base.keys() != trained.keys() or not base:
            raise ValueError("both models must have answered the same items")
        n = len(base)
        gained = sum(trained[item] and not correct for item, correct in base.items())
        lost = sum(correct and not trained[item] for item, correct in base.items())
        up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
        gains.append((gained - lost) / n)
        centres.append(up - down)
        variances.append((up + down - (up - down) ** 2) / (n + 2))
    if not gains:
        raise ValueError("there are no items")
    centre, half = sum(centres) / len(centres), 1.959964 * math.sqrt(sum(variances)) / len(variances)
    return sum(gains) / len(gains), (max(-1.0, centre - half), min(1.0, centre + half))
