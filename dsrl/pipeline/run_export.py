"""The training set of a run in the form of other tools: Hugging Face's trainers, TRL, verl, tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.stages.trained import ParquetRow, list_messages, write_parquet
from dsrl.storage.files import replace_file
from dsrl.storage.listing import SampleRow
from dsrl.storage.run_store import RunStore
from dsrl.types import Prompt

_COLUMNS = (
    "id",
    "kind",
    "task",
    "domain",
    "input",
    "output",
    "label",
    "passed",
    "attempts",
    "score",
    "place",
    "passage",
)


@dataclass(frozen=True, slots=True)
class ExportedSamples:
    """What was written.

    Attributes:
        path: the file or folder.
        rows: number of rows.
        left_out: number of samples that the format cannot use.
        reason: why they were left out; empty if none was.
    """

    path: str
    rows: int
    left_out: int = 0
    reason: str = ""


def export_samples(store: RunStore, form: str, path: Path, is_whole: bool = False) -> ExportedSamples:
    """Write the training set of a run, or all its samples with a label, to a file or folder that does not exist yet.

    Args:
        store: the run.
        form: one of :data:`FORMATS`.
        path: the new file (``hf``: the new folder).
        is_whole: write all samples that have a label, and not only the training set.

    Raises:
        DataError: there is nothing to write, or the path exists.
        SettingsError: there is no such format.
        StoreError: the run cannot be read, or the file cannot be written.
    """
    if form not in FORMATS:
        raise SettingsError(f"there is no format {form!r}; the formats are {', '.join(FORMATS)}")
    if path.exists():
        raise DataError(f"{path} exists; name another file with --out")
    rows = [row for row in store.list_sample_rows() if row.label is not None and (is_whole or row.place is not None)]
    if not rows:
        wanted = "samples with a label" if is_whole else "training set yet; --all writes all samples with a label"
        raise DataError(f"run {store.folder.name!r} has no {wanted}")
    rows.sort(key=lambda row: (row.iteration, row.place is None, row.place or 0))
    return FORMATS[form].write(_Prompts(store), rows, path)


class _Prompts:
    """Makes the prompts of a run again, as the base model got them."""

    def __init__(self, store: RunStore) -> None:
        definition = store.definition()
        if definition is None:
            raise DataError(
                f"run {store.folder.name!r} was started by an early version of dsrl, which kept no definition"
            )
        own_definitions = definition.get("tasks", {"": definition})
        self.judged = {task for task, own in own_definitions.items() if own.get("rubric")}
        self._definitions = {
            task: Definition(
                description=own.get("description", ""),
                input_instruction=own.get("input_instruction", ""),
                output_instruction=own["output_instruction"],
                system_prompt=own.get("system_prompt", ""),
                is_chat=own.get("is_chat", False),
            )
            for task, own in own_definitions.items()
        }
        self.task_name = store.read_task_name() or ""

    def make(self, row: SampleRow) -> Prompt:
        return self._definitions[row.task].make_prompt(row.input)

    def list_messages(self, row: SampleRow) -> list[dict[str, str]]:
        return list_messages(self.make(row))


def _write_sft(prompts: _Prompts, rows: Sequence[SampleRow], path: Path) -> ExportedSamples:
    # The votes can agree on another answer than the sample's own output has; such an output must not be learned.
    right = [row for row in rows if row.own_answer == row.label]
    if not right:
        raise DataError("no sample has an output with the answer that the votes agreed on, so nothing can be imitated")
    _write_lines(
        path,
        (
            {
                "messages": [*prompts.list_messages(row), {"role": "assistant", "content": row.output}],
                **_describe(row),
            }
            for row in right
        ),
    )
    left_out = len(rows) - len(right)
    return ExportedSamples(
        str(path), len(right), left_out, "their output has another answer than the votes" * bool(left_out)
    )


def _write_trl(prompts: _Prompts, rows: Sequence[SampleRow], path: Path) -> ExportedSamples:
    _write_lines(path, ({"prompt": prompts.list_messages(row), "answer": row.label, **_describe(row)} for row in rows))
    return ExportedSamples(str(path), len(rows))


def _write_verl(prompts: _Prompts, rows: Sequence[SampleRow], path: Path) -> ExportedSamples:
    table = [
        ParquetRow(
            row.task or prompts.task_name, prompts.make(row), row.input, str(row.label), row.task in prompts.judged
        )
        for row in rows
    ]
    write_parquet(path, "train", table)
    return ExportedSamples(str(path), len(rows))


def _write_csv(prompts: _Prompts, rows: Sequence[SampleRow], path: Path) -> ExportedSamples:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(row, column) for column in _COLUMNS] for row in rows)
    replace_file(path, text.getvalue().encode("utf-8", "replace"))
    return ExportedSamples(str(path), len(rows))


def _write_hf(prompts: _Prompts, rows: Sequence[SampleRow], path: Path) -> ExportedSamples:
    from datasets import Dataset, DatasetDict

    records = [{**{c: getattr(row, c) for c in _COLUMNS}, "prompt": prompts.list_messages(row)} for row in rows]
    DatasetDict({"train": Dataset.from_list(records)}).save_to_disk(str(path))
    return ExportedSamples(str(path), len(rows))


def _describe(row: SampleRow) -> dict[str, Any]:
    names = ("id", "task", "domain", "label", "passed", "attempts", "score", "passage")
    return {name: getattr(row, name) for name in names}


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    replace_file(path, text.encode("utf-8", "replace"))


class Format(NamedTuple):
    """A format: what writes it, and the usual ending of its file."""

    write: Callable[[_Prompts, Sequence[SampleRow], Path], ExportedSamples]
    ending: str


#: ``sft`` and ``trl`` are JSONL, ``verl`` is Parquet, ``csv`` is a table, ``hf`` is a folder of the library ``datasets``.
FORMATS: Mapping[str, Format] = {
    "sft": Format(_write_sft, ".jsonl"),
    "trl": Format(_write_trl, ".jsonl"),
    "verl": Format(_write_verl, ".parquet"),
    "csv": Format(_write_csv, ".csv"),
    "hf": Format(_write_hf, ""),
}
