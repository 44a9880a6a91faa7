"""Read items of real data: a Hugging Face ``DatasetDict`` on disk or on the hub, JSONL, or JSON.

The library ``datasets`` is imported only when a data set is a folder or a hub id.
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
    """Read one split of a data set.

    Args:
        path: a JSONL or JSON file (it has no splits and is read whole), the folder of a ``DatasetDict``, or a hub id.
        split: name of the split of a ``DatasetDict``.
        convert: makes an item from a row. It returns None for a row to leave out, and raises ``KeyError`` for a missing
            column. By default the columns ``input`` and ``output`` are read, in upper or lower case, and
            ``domain`` if there is one.

    Raises:
        DataError: the data set cannot be read; the text names the file and line, or the data set and row.
    """
    convert = convert or _convert_input_output
    file = Path(path)
    if file.is_file():
        rows: Iterable[tuple[str, Row]] = _read_file(file)
    else:
        rows = _read_split(path, split)
    examples = []
    for place, row in rows:
        try:
            example = convert(row)
        except KeyError as error:
            raise DataError(
                f"{place}: no column {error}; the columns are {', '.join(map(str, row)) or 'none'}"
            ) from error
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


def _convert_input_output(row: Row) -> Example:
    columns = {str(name).lower(): value for name, value in row.items()}
    missing = [name for name in ("input", "output") if name not in columns]
    if missing:
        raise KeyError(missing[0].capitalize())
    domain = columns.get("domain")
    return Example(columns["input"], columns["output"], domain if isinstance(domain, str) else "")


def _read_file(path: Path) -> Iterable[tuple[str, Row]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"data set {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"data set {path} cannot be read: {error.strerror}") from error
    return read_json_rows(text, str(path))


def read_json_rows(text: str, name: str) -> Iterable[tuple[str, Row]]:
    """Read JSONL or a JSON list of objects, and yield (place, object).

    Raises:
        DataError: the text is not JSON; the error names ``name:line``.
    """
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            line, reason = _explain_json_error(error)
            raise DataError(f"{name}:{line}: not JSON ({reason})") from error
        places: Iterable[tuple[str, Any]] = ((f"{name}, item {i}", row) for i, row in enumerate(rows, 1))
    else:
        places = _read_lines(text, name)
    for place, row in places:
        if not isinstance(row, dict):
            raise DataError(f"{place}: not an object but {type(row).__name__}")
        yield place, row


def _read_lines(text: str, name: str) -> Iterable[tuple[str, Any]]:
    # Only \n ends a line of JSONL. str.splitlines would also split at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"{name}:{number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{name}:{number}: not JSON ({_explain_json_error(error)[1]})") from error


def _explain_json_error(error: Exception) -> tuple[int, str]:
    """Return line and reason. Errors about depth or digits are not a JSONDecodeError and know no line."""
    if isinstance(error, json.JSONDecodeError):
        return error.lineno, error.msg
    return 1, "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"


def _read_split(path: str, split: str) -> Iterable[tuple[str, Row]]:
    import datasets

    is_folder = Path(path).is_dir()
    try:
        splits = datasets.load_from_disk(path) if is_folder else datasets.load_dataset(path)
    except FileNotFoundError as error:
        fault = "folder holds no Hugging Face data set" if is_folder else "neither a file nor a known data set"
        raise DataError(f"data set {path}: {fault} ({_get_first_line(error)})") from error
    except Exception as error:  # the library raises many kinds of errors, its own and those of its HTTP client
        raise DataError(
            f"data set {path} cannot be loaded: {type(error).__name__}: {_get_first_line(error)}"
        ) from error
    if not isinstance(splits, Mapping):
        raise DataError(f"data set {path} has no splits; save it as a DatasetDict with train and test")
    if split not in splits:
        raise DataError(f"data set {path} has no split {split!r}; its splits are {', '.join(map(str, splits))}")
    return ((f"{path}, {split} row {i}", row) for i, row in enumerate(splits[split]))


def _get_first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def read_demos(path: Path) -> Sequence[Example]:
    """Read demonstrations: a JSON list or JSONL of objects with ``input`` and ``output``, and perhaps ``domain``.

    An empty file has none.

    Raises:
        DataError: the file is missing or has another shape; the text names file and line.
    """
    shape = 'demonstrations are a JSON list or JSONL of {"input": "...", "output": "..."}'
    if not path.is_file():
        raise DataError(f"demonstrations file {path} is not there")
    examples = []
    for place, row in _read_file(path):
        if not isinstance(row.get("input"), str) or not isinstance(row.get("output"), str):
            raise DataError(f"{place}: {shape}; the keys here are {', '.join(map(str, row)) or 'none'}")
        domain = row.get("domain") or ""
        if not isinstance(domain, str):
            raise DataError(f"{place}: the domain is {domain!r}, but must be a text")
        examples.append(Example(*map(replace_surrogates, (row["input"], row["output"], domain))))
    return examples
