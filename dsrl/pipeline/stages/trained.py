"""Training: GRPO on the selected samples with the task's own reward, or that of a judge (paper 4.3)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dsrl.errors import PluginError, StoreError
from dsrl.pipeline import signals
from dsrl.pipeline.judging import JudgeCounts, judge_all, make_submission
from dsrl.pipeline.metric_logs import open_logs
from dsrl.pipeline.model_folder import find_fault, set_usual_modes
from dsrl.pipeline.run_tasks import RunTasks, list_judged
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.training_watch import TrainingWatch
from dsrl.plugins.binding import Plugin
from dsrl.plugins.several_tasks import join_tasks
from dsrl.plugins.specs import TrainerSpec
from dsrl.settings import Settings
from dsrl.storage.attempts import DevItem
from dsrl.storage.metrics import Metrics
from dsrl.types import Answer, Message, Prompt, Sample, Score, TrainItem, TrainJob, TrainStep

#: The basis of a training that an early version of dsrl started; it did not record the output folder.
UNKNOWN_OUTPUT = "done"


def train_model(run: OpenRun, iteration: int) -> None:
    """Train a model on the selected samples.

    Raises:
        StoreError: the output folder is not empty.
        PluginError: the trainer did not write a model that can be loaded.
    """
    context, stages = run.context, run.store.stages
    if stages.is_finished(iteration, "trained"):
        return
    output = context.get_output_folder(iteration)
    if not owns_output(stages.get_basis(iteration, "trained"), context.settings, iteration):
        check_output_empty(output)
        stages.begin(iteration, "trained", get_output_basis(context.settings, iteration))
    job = _make_job(run, iteration)
    tasks = context.tasks
    rows = [
        ParquetRow(tasks[item.task].name, item.prompt, item.input, item.label, bool(tasks[item.task].rubric))
        for item in job.items
    ]
    write_parquet(context.folder / "data" / "train.parquet", "train", rows)
    with run.clock.measure("trained"):
        watch = _train(run, iteration, job)
    check_trained_model(context.trainer, output)
    stages.finish(iteration, "trained")
    watch.review_groups()
    run.progress.finish("trained", f"{output}{watch.describe_best()}")


def _make_job(run: OpenRun, iteration: int) -> TrainJob:
    context = run.context
    samples = {sample.id: sample for sample in run.store.samples(iteration)}
    selected = [samples[sample_id] for sample_id in run.store.selected(iteration)]
    dev_items = make_dev_items(context.tasks, run.store.dev_items(iteration), run.store.scores(iteration))
    return make_job(
        context.settings,
        context.get_start_model(iteration),
        make_items(
            context.tasks,
            selected,
            run.store.scores(iteration),
            run.store.list_votes(iteration),
            run.store.greedy_attempts(iteration),
        ),
        context.get_output_folder(iteration),
        context.get_work_folder(iteration),
        dev_items,
        choose=min(context.settings.select, len(selected)) if context.is_online else 0,
    )


def _train(run: OpenRun, iteration: int, job: TrainJob) -> TrainingWatch:
    """Call the trainer; show and store every step."""
    metrics = _open_metrics(run)
    watch = TrainingWatch(run, iteration, len(job.dev_items), metrics)
    is_shown = False

    def on_step(step: TrainStep) -> None:
        nonlocal is_shown
        if not is_shown:
            if step.step > 1:
                run.progress.note(f"the training continues with step {step.step} of {step.steps}")
            run.progress.set_status("")
            run.progress.start("trained", step.steps, step.step - 1)
            is_shown = True
        run.advance("trained")
        run.progress.train_step(step)
        run.store.add_rewards(step.step, step.rewards)
        values = {"epoch": step.epoch, **step.metrics}
        if metrics.add(iteration, step.step, values):
            logs.add(step.step, values)
        watch.add(step)

    trainer, tasks, counts = run.context.trainer, run.context.tasks, JudgeCounts()

    def judge(answers: Sequence[tuple[TrainItem, str]]) -> list[float]:
        # The trainer may have an event loop of its own.
        return signals.call(lambda: signals.run(_judge(run, counts, answers)))

    task = join_tasks({key: task.plugin for key, task in tasks.items()}, list_judged(tasks), judge)
    run.progress.set_status("loading the model for the training, or waiting for its first step")
    name = run.settings.name if iteration == 1 else f"{run.settings.name}-iteration-{iteration}"
    try:
        with open_logs(run.settings.log_to, run.context.folder / "logs", name, run.add_note) as logs:
            trainer.hook.train(job=job, task=task, on_step=on_step)
    finally:
        run.progress.set_status("")
        run.warn_of_judgements("trained", iteration, counts)
    if job.eval_every and not watch.accuracies:
        run.add_warning(
            f"the trainer {trainer.name!r} has not evaluated the model while it trained, so its last model is kept: it does "
            f"not support --eval-every, or the training had fewer than {job.eval_every} steps",
            f"trained-{iteration}:not_evaluated",
        )
    return watch


async def _judge(run: OpenRun, counts: JudgeCounts, answers: Sequence[tuple[TrainItem, str]]) -> list[float]:
    """Return the scores of answers to judged tasks; their requests go out together."""
    async with run.open_judges(counts) as judges:
        return await judge_all(
            judges, [(item.task, make_submission(item.input, output, item.label)) for item, output in answers]
        )


def forget_training(run: OpenRun, iteration: int) -> None:
    """Remove the training set of an iteration, and the model that was trained on it."""
    context, basis = run.context, run.store.stages.get_basis(iteration, "trained")
    if basis:
        folders = [context.get_work_folder(iteration)]
        if owns_output(basis, context.settings, iteration):
            folders.append(context.get_output_folder(iteration))
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        _open_metrics(run).forget(iteration)
    run.store.forget_training(iteration)


def _open_metrics(run: OpenRun) -> Metrics:
    return Metrics(run.context.folder / "metrics.jsonl", run.add_note)


def make_items(
    tasks: RunTasks,
    samples: Iterable[Sample],
    scores: Mapping[str, Score],
    votes: Mapping[str, Sequence[Answer]] | None = None,
    solved: Mapping[str, bool] | None = None,
) -> tuple[TrainItem, ...]:
    """Make the items of a training from samples.

    Args:
        tasks: make the prompts.
        samples: what to train on; all have a label.
        scores: id of a sample -> its score; a sample without one was not attempted.
        votes: id of a sample -> the answer in its own output, then its votes; a sample without any is real data.
        solved: id of a sample -> whether the greedy attempt was right; a rewritten sample has none.
    """

    def get_output(sample: Sample) -> str:
        own = (votes or {}).get(sample.id)
        is_right = tasks[sample.task].rubric or own is None or own[0] == sample.label
        return sample.output if is_right else ""  # the votes have outvoted the sample's own answer

    return tuple(
        TrainItem(
            id=sample.id,
            prompt=tasks[sample.task].definition.make_prompt(sample.input),
            input=sample.input,
            label=str(sample.label),
            task=sample.task,
            attempts=scores[sample.id].attempts if sample.id in scores else 0,
            passed=scores[sample.id].passed if sample.id in scores else 0,
            output=get_output(sample),
            is_solved=(solved or {}).get(sample.id),
        )
        for sample in samples
    )


def make_dev_items(tasks: RunTasks, items: Iterable[DevItem], scores: Mapping[str, Score]) -> tuple[TrainItem, ...]:
    """Make the development items of a training.

    Args:
        tasks: make the prompts.
        items: the stored development items.
        scores: id of a sample -> its score.
    """

    def make_item(number: int, item: DevItem) -> TrainItem:
        score = scores.get(item.sample or "")
        return TrainItem(
            id=item.sample or f"train-{number:05d}",
            prompt=tasks[item.task].definition.make_prompt(item.input),
            input=item.input,
            label=item.label,
            task=item.task,
            attempts=score.attempts if score else 0,
            passed=score.passed if score else 0,
        )

    return tuple(make_item(number, item) for number, item in enumerate(items, 1))


def make_job(
    settings: Settings,
    model: str,
    items: Sequence[TrainItem],
    output_dir: Path,
    work_dir: Path,
    dev_items: Sequence[TrainItem] = (),
    choose: int = 0,
) -> TrainJob:
    """Make the job of a trainer from the settings.

    Args:
        settings: the settings of the run.
        model: folder or hub id of the model to start from.
        items: what to train on.
        output_dir: the folder for the trained model.
        work_dir: the folder for checkpoints.
        dev_items: what the training is evaluated on; without them it is not evaluated.
        choose: above 0, the items are a pool that the trainer chooses from; see :class:`dsrl.types.TrainJob`.
    """
    return TrainJob(
        model=model,
        items=tuple(items),
        output_dir=output_dir,
        work_dir=work_dir,
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        group_size=settings.group_size,
        temperature=settings.train_temperature,
        top_p=settings.train_top_p,
        kl_coef=settings.kl_coef,
        max_completion_tokens=settings.max_completion_tokens,
        max_prompt_tokens=settings.max_prompt_tokens,
        seed=settings.seed,
        device=settings.device,
        dtype=settings.dtype,
        lora_rank=settings.lora_rank,
        dev_items=tuple(dev_items),
        eval_every=settings.eval_every if dev_items else 0,
        choose=choose,
    )


def check_trained_model(trainer: Plugin[TrainerSpec], folder: Path) -> None:
    """Refuse what a trainer has written if it is not a model; the files of a model get the usual modes.

    Raises:
        PluginError: the text names the trainer and says what is wrong with the folder.
    """
    try:
        fault = find_fault(folder)
        if not fault:
            set_usual_modes(folder)
    except OSError as error:
        fault = f"{error.filename or folder} cannot be read or changed: {error.strerror}"
    if fault:
        raise PluginError(
            f"trainer {trainer.name!r} of {trainer.distribution} {trainer.version} ended and left no model that can be "
            f"loaded in {folder}: {fault}. Repair the trainer or choose another one; the same command trains again"
        )


def get_output_basis(settings: Settings, iteration: int) -> str:
    """Return the basis of the stage ``trained``: the setting that decides the output folder."""
    return f"output: {settings.output_model if iteration == settings.iterations else ''}"


def owns_output(basis: str | None, settings: Settings, iteration: int) -> bool:
    """Return whether the files in the output folder of an iteration are from this run, so that it may continue with them.

    Args:
        basis: :func:`get_output_basis` at the start of the training; None if it was not started.
        settings: the settings now.
        iteration: from 1.
    """
    now = get_output_basis(settings, iteration)
    return basis == now or (basis == UNKNOWN_OUTPUT and now == "output: ")


def check_output_empty(output: Path) -> None:
    """Refuse a folder for the trained model that is not empty, because its files would be overwritten.

    Raises:
        StoreError: the folder is not empty, or cannot be read.
    """
    try:
        is_empty = not output.exists() or not any(output.iterdir())
    except OSError as error:
        raise StoreError(
            f"the folder for the trained model, {output}, cannot be read ({error.strerror}); name another one with "
            "--output-model"
        ) from error
    if not is_empty:
        raise StoreError(
            f"the folder for the trained model, {output}, is not empty; name another one with --output-model, or empty it"
        )


def list_messages(prompt: Prompt) -> list[dict[str, str]]:
    """Return a prompt as chat messages, as other trainers read it: ``role`` and ``content`` of each."""
    # Without a chat template, the model was asked with one plain text.
    messages = prompt.messages if prompt.is_chat else (Message("user", prompt.plain_text),)
    return [{"role": message.role, "content": message.content} for message in messages]


class ParquetRow(NamedTuple):
    """A row of a Parquet file for verl: an item, the name of its task, and whether the task is judged."""

    task: str
    prompt: Prompt
    input: str
    label: str
    is_judged: bool = False


def write_parquet(path: Path, split: str, rows: Sequence[ParquetRow]) -> None:
    """Write rows to a Parquet file with the columns that verl reads. The name of the task chooses the reward of a row.

    Columns: ``data_source``, ``prompt`` (chat messages), ``ability``, ``reward_model`` (``style``: ``model`` if a
    teacher judges the answers, else ``rule``; ``ground_truth``),
    ``extra_info`` (``split``, ``index``, ``question``, ``chat_template``: whether the model was asked through its chat
    template). Source: verl's documentation, "Prepare Data for Post-Training".
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(
        [
            {
                "data_source": row.task,
                "prompt": list_messages(row.prompt),
                "ability": row.task,
                "reward_model": {"style": "model" if row.is_judged else "rule", "ground_truth": row.label},
                "extra_info": {
                    "split": split,
                    "index": index,
                    "question": row.input,
                    "chat_template": row.prompt.is_chat,
                },
            }
            for index, row in enumerate(rows)
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    pq.write_table(table, temporary)
    temporary.replace(path)
