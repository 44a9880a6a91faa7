"""Reading items of real data: a Hugging Face ``DatasetDict`` on disk or on the hub, JSONL, JSON.

Named as the library that does the work; it is imported only when a data set is a folder or a hub id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dsrl.errors import DataError
from dsrl.text import replace_surrogates
from dsrl.types import Example

Row = Mapping[str, Any]


def read_dataset(
    path: str, split: Literal["train", "test"], convert: Callable[[Row], Example | None] | None = None
) -> list[Example]:
    """Read one split.

    Args:
        path: a JSONL or JSON file (it has no splits: it is the test set), the folder of a ``DatasetDict``, a hub id.
        split: which split of a ``DatasetDict``.
        convert: makes an item of a row; None for a row that is to be left out; raises ``KeyError`` for a missing
            column. Default: columns ``input`` and ``output``, in either case.

    Raises:
        DataError: names the file and line, or the data set and row.
    """
    convert = convert or _input_output
    where = Path(path)
    if where.is_file():
        rows: Iterable[tuple[str, Row]] = _file_rows(where)
    else:
        rows = _dataset_rows(path, where, split)
    examples = []
    for place, row in rows:
        try:
            example = convert(row)
        except KeyError as error:
            raise DataError(f"{place}: no column {error}; there are {', '.join(map(str, row)) or 'none'}") from error
        except (TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{place}: cannot be read as an item ({error})") from error
        if example is None:
            continue
        if not isinstance(example.input, str) or not isinstance(example.output, str):
            raise DataError(f"{place}: input and output must be text")
        examples.append(example)
    if not examples:
        raise DataError(f"data set {path} holds no items in the split {split!r}")
    return examples


def _input_output(row: Row) -> Example:
    columns = {str(name).lower(): value for name, value in row.items()}
    missing = [name for name in ("input", "output") if name not in columns]
    if missing:
        raise KeyError(missing[0].capitalize())
    return Example(columns["input"], columns["output"])


def _file_rows(path: Path) -> Iterable[tuple[str, Row]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"data set {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"data set {path} cannot be read: {error.strerror}") from error
    return json_rows(text, str(path))


def json_rows(text: str, name: str) -> Iterable[tuple[str, Row]]:
    """Read JSONL, or a JSON list of objects; give (place, object).

    Raises:
        DataError: names ``name:line``.
    """
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            line, why = _json_fault(error)
            raise DataError(f"{name}:{line}: not JSON ({why})") from error
        places: Iterable[tuple[str, Any]] = ((f"{name}, item {i}", row) for i, row in enumerate(rows, 1))
    else:
        places = _lines(text, name)
    for place, row in places:
        if not isinstance(row, dict):
            raise DataError(f"{place}: not an object but {type(row).__name__}")
        yield place, row


def _lines(text: str, name: str) -> Iterable[tuple[str, Any]]:
    # Only \n ends a line of JSONL: str.splitlines would cut at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"{name}:{number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{name}:{number}: not JSON ({_json_fault(error)[1]})") from error


def _json_fault(error: Exception) -> tuple[int, str]:
    """Give line and reason; depth and digits have limits of their own, which are no JSONDecodeError."""
    if isinstance(error, json.JSONDecodeError):
        return error.lineno, error.msg
    return 1, "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"


def _dataset_rows(path: str, where: Path, split: str) -> Iterable[tuple[str, Row]]:
    import datasets

    try:
        found = datasets.load_from_disk(path) if where.is_dir() else datasets.load_dataset(path)
    except FileNotFoundError as error:
        kind = "folder holds no Hugging Face data set" if where.is_dir() else "neither a file nor a known data set"
        raise DataError(f"data set {path}: {kind} ({_first_line(error)})") from error
    except Exception as error:  # the library raises many kinds, its own and its transports'
        raise DataError(f"data set {path} cannot be loaded: {type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(found, Mapping):
        raise DataError(f"data set {path} has no splits; save it as a DatasetDict with train and test")
    if split not in found:
        raise DataError(f"data set {path} has no {split!r} split; there are {', '.join(map(str, found))}")
    return ((f"{path}, {split} row {i}", row) for i, row in enumerate(found[split]))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def read_demos(path: Path) -> Sequence[Example]:
    """Read demonstrations: a JSON list or JSONL of objects with ``input`` and ``output``; an empty file holds none.

    Raises:
        DataError: the file is missing or of another shape; names file and line.
    """
    shape = 'demonstrations are a JSON list or JSONL of {"input": "...", "output": "..."}'
    if not path.is_file():
        raise DataError(f"demonstrations file {path} is not there")
    examples = []
    for place, row in _file_rows(path):
        if not isinstance(row.get("input"), str) or not isinstance(row.get("output"), str):
            raise DataError(f"{place}: {shape}; this one has {', '.join(map(str, row)) or 'no keys'}")
        examples.append(Example(replace_surrogates(row["input"]), replace_surrogates(row["output"])))
    return examples
