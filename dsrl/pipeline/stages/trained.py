"""Training: GRPO on the selected samples with the task's own reward (paper 4.3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsrl.errors import PluginError, StoreError
from dsrl.pipeline.instructor import Definition
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TrainerSpec
from dsrl.settings import Settings
from dsrl.types import Sample, TrainItem, TrainJob

#: Bytes of a JSON file, or of the header of a weights file, that are read at most.
_LONGEST_JSON = 100_000_000
#: One of these is in every folder that a tokenizer can be loaded from.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model", "tekken.json")
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


def refuse_no_model(trainer: Plugin[TrainerSpec], folder: Path) -> None:
    """Refuse what a trainer has left behind if it is no model.

    Raises:
        PluginError: names the trainer and says what is wrong with the folder.
    """
    try:
        fault = _fault_of_model(folder)
    except OSError as error:
        fault = f"{error.filename or folder} cannot be read: {error.strerror}"
    if fault:
        raise PluginError(
            f"trainer {trainer.name!r} of {trainer.distribution} {trainer.version} ended and left no model that can be "
            f"loaded in {folder}: {fault}. Mend or choose another trainer; the same command trains again"
        )


def _fault_of_model(folder: Path) -> str | None:
    """Say why a folder holds no model in Hugging Face form, as far as that can be seen without loading it."""
    if not folder.is_dir():
        return "there is no such folder"
    if not isinstance(_read_json(folder / "config.json"), dict):
        return "config.json is missing, or no JSON object"
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZER_FILES):
        return "it holds no tokenizer (tokenizer.json)"
    shards = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    for path in shards:
        if not _has_tensors(path):
            return f"{path.name} is no whole file of weights"
    if not shards and not any(path.stat().st_size for path in folder.glob("*.bin")):
        return "it holds no weights (*.safetensors)"
    for index in folder.glob("*.index.json"):
        parts = _read_json(index)
        places = parts.get("weight_map") if isinstance(parts, dict) else None
        if not isinstance(places, dict):
            return f"{index.name} is no index of weights"
        missing = sorted({str(name) for name in places.values() if not (folder / str(name)).is_file()})
        if missing:
            return f"{missing[0]} is missing, which {index.name} names"
    return None


def _has_tensors(path: Path) -> bool:
    """Say whether a safetensors file is whole: its header names at least one tensor, and all of them are in the file.

    Format: https://huggingface.co/docs/safetensors: 8 bytes of length, a JSON header, the data.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_JSON):
            return False
        header = _json_of(file.read(length))
    if not isinstance(header, dict):
        return False
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    try:
        ends = [int(entry["data_offsets"][1]) for entry in tensors]
    except (KeyError, TypeError, ValueError, IndexError):
        return False
    return bool(ends) and max(ends) == size - 8 - length


def _read_json(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > _LONGEST_JSON:
        return None
    return _json_of(path.read_bytes())


def _json_of(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


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
