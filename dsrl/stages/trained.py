"""Training: GRPO on the selected samples with the task's own reward (paper 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsrl.config import Settings
from dsrl.errors import StoreError
from dsrl.instructor import Definition
from dsrl.records import Sample, TrainItem, TrainJob

#: The mark of a training that an earlier version started, which kept no folder.
UNKNOWN_OUTPUT = "done"


def make_job(
    settings: Settings, definition: Definition, model: str, samples: Sequence[Sample], output_dir: Path, work_dir: Path
) -> TrainJob:
    """Say what is to be trained on ``samples``, which have labels, and how."""
    items = tuple(TrainItem(s.id, definition.prompt(s.input), s.input, str(s.label)) for s in samples)
    return TrainJob(
        model=model,
        items=items,
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
    )


def output_folder(settings: Settings, folder: Path, round: int) -> Path:
    """Say where a round's model goes; the last one is the run's result.

    Args:
        folder: of the run.
    """
    if round < settings.iterations:
        return folder / "rounds" / str(round) / "model"
    return Path(settings.output_model) if settings.output_model else folder / "model"


def work_folder(folder: Path, round: int) -> Path:
    """Say where the trainer keeps its checkpoints of a round."""
    return folder / "rounds" / str(round) / "training"


def output_mark(settings: Settings, round: int) -> str:
    """Give what is kept in the run when a training starts: the setting that its output folder follows from."""
    return f"output: {settings.output_model if round == settings.iterations else ''}"


def owns_output(mark: str | None, settings: Settings, round: int) -> bool:
    """Say whether what is in the folder for a round's model is from this run, so that it may be gone on with.

    Args:
        mark: :func:`output_mark` as it was when the training started; None if it was not.
    """
    now = output_mark(settings, round)
    return mark == now or (mark == UNKNOWN_OUTPUT and now == "output: ")


def refuse_filled(output: Path) -> None:
    """Refuse a folder for the trained model that holds something; it would be overwritten.

    Raises:
        StoreError: it does, or it cannot be read.
    """
    try:
        filled = output.exists() and any(output.iterdir())
    except OSError as error:
        raise StoreError(
            f"the folder for the trained model, {output}, cannot be read ({error.strerror}); name another one with "
            "--output-model"
        ) from error
    if filled:
        raise StoreError(
            f"the folder for the trained model, {output}, is not empty; name another one with --output-model, or empty it"
        )


def write_parquet(path: Path, task: str, split: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write (prompt, input, label) rows in the columns that verl reads.

    Columns: ``data_source``, ``prompt`` (chat messages), ``ability``, ``reward_model`` (``style``, ``ground_truth``),
    ``extra_info`` (``split``, ``index``, ``question``). Source: verl's documentation, "Prepare Data for Post-Training".
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(
        [
            {
                "data_source": task,
                "prompt": [{"role": "user", "content": prompt}],
                "ability": task,
                "reward_model": {"style": "rule", "ground_truth": label},
                "extra_info": {"split": split, "index": index, "question": question},
            }
            for index, (prompt, question, label) in enumerate(rows)
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    pq.write_table(table, temporary)
    temporary.replace(path)
