"""Read MATH: from the hub with its seven configurations, from the original folder of JSON files, or from JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from dsrl import DataError, Example
from dsrl.datasets import read_dataset, read_input_output
from dsrl_tasks.math import DOMAINS


def read_math(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read one split.

    Args:
        path: a hub id such as ``EleutherAI/hendrycks_math``, whose configurations are read one after the other; a JSONL or
            JSON file with ``problem``, ``solution`` and perhaps ``type``; or the original folder ``MATH`` with
            ``test/algebra/1.json``. Other files and folders are read with ``input`` and ``output``.
        split: ``train`` or ``test``.

    Returns:
        The items. Their domain is what ``type``, the folder or the configuration says.

    Raises:
        DataError: the data cannot be read; the text names the file or the row.
    """
    folder = Path(path)
    if folder.is_dir() and not (folder / "dataset_dict.json").exists():
        return _read_folder(folder / split if (folder / split).is_dir() else folder)
    if folder.exists():
        return read_dataset(path, split, _read_row)
    return _read_hub(path, split)


def find_domain(name: object) -> str:
    """Return the subject of MATH that a name means, in any spelling of its files; empty if it is none of them.

    MATH writes ``Counting & Probability`` in its rows, and ``counting_and_probability`` for folders and configurations.
    """
    domain = " ".join(str(name).lower().replace("&", " and ").replace("_", " ").split())
    return domain if domain in DOMAINS else ""


def _read_row(row: Mapping[str, Any], place: str = "") -> Example:
    if "problem" in row or "solution" in row:
        return _make_example(row, place)
    return read_input_output(row)


def _make_example(row: Mapping[str, Any], place: str) -> Example:
    """Make an item of a row of MATH; ``place`` names its domain if the row itself does not."""
    problem, solution = row["problem"], row["solution"]
    if "boxed" not in solution and "\\fbox" not in solution:
        raise ValueError("the solution has no \\boxed{} with the answer")
    return Example(problem.strip(), solution, find_domain(row.get("type")) or find_domain(place))


def _read_folder(folder: Path) -> list[Example]:
    """Read the files of the original archive, ``algebra/1.json`` and so on, in the order of their numbers."""
    files = sorted(folder.glob("*/*.json"), key=lambda file: (file.parent.name, len(file.stem), file.stem))
    if not files:
        raise DataError(
            f"data set {folder}: no file like algebra/1.json there; give the folder MATH of the original archive, or a "
            "JSONL file with problem and solution"
        )
    examples = []
    for file in files:
        try:
            examples.append(_make_example(json.loads(file.read_text(encoding="utf-8")), file.parent.name))
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file}: cannot be read as an item ({type(error).__name__}: {error})") from error
    return examples


def _read_hub(path: str, split: str) -> list[Example]:
    import datasets

    examples = []
    for domain in DOMAINS:
        config = domain.replace(" ", "_")
        try:
            rows = datasets.load_dataset(path, config, split=split)
        except Exception as error:  # the library raises many kinds of errors, its own and those of its HTTP client
            reason = (str(error).splitlines() or [""])[0]
            raise DataError(
                f"data set {path}, configuration {config}, cannot be loaded: {type(error).__name__}: {reason}. Without a "
                "network, give a local file: JSONL with problem and solution, or the folder of the original archive"
            ) from error
        for number, row in enumerate(rows):
            try:
                examples.append(_read_row(row, config))
            except (KeyError, ValueError, AttributeError, TypeError) as error:
                raise DataError(f"{path}, {config}, {split} row {number}: {error}") from error
    return examples
