"""Read items of real data: a Hugging Face ``DatasetDict`` on disk or on the hub, JSONL, JSON, CSV, or Parquet.

The library ``datasets`` is imported only when a data set is a folder or a hub id.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dsrl.errors import DataError
from dsrl.text import replace_surrogates
from dsrl.types import Example

Row = Mapping[str, Any]
#: Endings of files that hold a data set.
DATA_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class Columns(NamedTuple):
    """The columns of the items in a data set. Their names are compared without upper and lower case.

    Attributes:
        inputs: the columns that make an input together, each with its name before it if there are several; empty for the
            column ``input``.
        output: the column of the right answer; empty for the column ``output``.
    """

    inputs: tuple[str, ...] = ()
    output: str = ""

    def are_in(self, row: Row) -> bool:
        """Return whether a row has all of them."""
        names = {str(name).casefold() for name in row}
        return all(name.casefold() in names for name in (*(self.inputs or ("input",)), self.output or "output"))

    def make_item(self, row: Row) -> Example:
        """Return the item in a row, with the text of its column ``domain`` if there is one.

        Raises:
            KeyError: a column is missing.
            ValueError: a column holds something else than a text or a number.
        """
        values = {str(name).casefold(): value for name, value in row.items()}
        output = _get_text(values, self.output or "output")
        names = self.inputs or ("input",)
        texts = [_get_text(values, name) for name in names]
        text = texts[0] if len(texts) == 1 else "\n".join(f"{n}: {t}" for n, t in zip(names, texts, strict=True))
        domain = values.get("domain")
        return Example(text, output, domain if isinstance(domain, str) else "")


def _get_text(values: Row, name: str) -> str:
    value = values.get(name.casefold())
    if value is None:
        raise KeyError(name)
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"the column {name} is neither a text nor a number")
    return value.strip() if isinstance(value, str) else str(value)


_USUAL_COLUMNS = Columns()

#: The hub's own branch with every data set as Parquet; also for data sets that are a loading script.
PARQUET_REVISION = "refs/convert/parquet"


def read_dataset(
    path: str,
    split: str,
    convert: Callable[[Row], Example | None] | None = None,
    *,
    config: str = "",
    revision: str = "",
    data_files: Mapping[str, str] | None = None,
) -> list[Example]:
    """Read one split of a data set.

    Args:
        path: a JSONL, JSON, ``.csv``, ``.tsv`` or ``.parquet`` file (it has no splits and is read whole), the folder of a
            ``DatasetDict``, a folder with a copy of a data set of the hub, or a hub id.
        split: name of the split of a ``DatasetDict`` or of a data set of the hub.
        config: the configuration of a data set of the hub. It is ignored if the data set has no configuration of that
            name, so that a task can name the configuration of its usual data set and still read another one.
        revision: a branch, a tag or a commit of a data set of the hub, for example :data:`PARQUET_REVISION`.
        data_files: split -> pattern of the files in a repository of the hub, for one whose splits are not found alone.
        convert: makes an item from a row. It returns None for a row to leave out, and raises ``KeyError`` for a missing
            column. Default: :func:`read_input_output`.

    Raises:
        DataError: the data set cannot be read; the text names the file and line, or the data set and row.
    """
    convert = convert or read_input_output
    file = Path(path)
    if file.is_file():
        rows: Iterable[tuple[str, Row]] = _read_file(file)
    elif not file.exists() and (is_local_path(path) or path.count("/") > 1 or "\\" in path):
        # The hub would be asked several times, with pauses, before it is said that there is no such data set.
        raise DataError(f"data set {path}: there is no such file or folder")
    else:
        rows = _read_split(path, split, _HubOptions(config, revision, data_files))
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


def read_input_output(row: Row) -> Example:
    """Return the item in the columns ``input`` and ``output``, in upper or lower case, and its ``domain`` if there is one.

    Raises:
        KeyError: a column is missing.
    """
    columns = {str(name).lower(): value for name, value in row.items()}
    missing = [name for name in ("input", "output") if name not in columns]
    if missing:
        raise KeyError(missing[0].capitalize())
    domain = columns.get("domain")
    return Example(columns["input"], columns["output"], domain if isinstance(domain, str) else "")


def _read_file(path: Path) -> Iterable[tuple[str, Row]]:
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"data set {path}:{line} is not UTF-8 text ({error.reason} at byte {error.start}); save the file as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"data set {path} cannot be read: {error.strerror}") from error
    delimiter = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    return _read_csv(text, str(path), delimiter) if delimiter else read_json_rows(text, str(path))


def _read_csv(text: str, name: str, delimiter: str) -> Iterable[tuple[str, Row]]:
    # The reader needs line ends as they are; a quoted field can hold some.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                wanted = len(reader.fieldnames or ())
                raise DataError(f"{name}:{reader.line_num}: the row has not the {wanted} fields of the header")
            yield f"{name}:{reader.line_num}", row
    except csv.Error as error:
        # The count of lines ends with the last row that was read whole.
        raise DataError(f"{name}:{reader.line_num + 1}: not CSV ({error})") from error


def _read_parquet(path: Path) -> Iterable[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"data set {path} is not a Parquet file ({_get_first_line(error)})") from error
    return ((f"{path}, row {i}", row) for i, row in enumerate(table.to_pylist()))


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
    elif (single := _read_one_object(text)) is not None:
        places = [(name, single)]
    else:
        places = _read_lines(text, name)
    for place, row in places:
        if not isinstance(row, dict):
            raise DataError(f"{place}: not an object but {type(row).__name__}")
        yield place, row


def _read_one_object(text: str) -> dict[str, Any] | None:
    """Return the only object of a file, written over several lines; None if the file is something else."""
    first_line = text.lstrip().split("\n", 1)[0].rstrip()
    if not first_line.startswith("{") or first_line.endswith("}"):
        return None  # JSONL is not parsed twice
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


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


class _HubOptions(NamedTuple):
    """What to read of a repository of the hub; see :func:`read_dataset`."""

    config: str
    revision: str
    data_files: Mapping[str, str] | None


def is_local_path(path: str) -> bool:
    """Return whether the name of a data set is meant as a file or folder: no hub id begins like it, or ends like a file."""
    return path.startswith((".", "/", "~")) or path.lower().endswith(DATA_FILES)


def _read_split(path: str, split: str, options: _HubOptions) -> Iterable[tuple[str, Row]]:
    is_folder = Path(path).is_dir()
    try:
        splits = _load_splits(path, options)
    except FileNotFoundError as error:
        fault = "folder holds no Hugging Face data set" if is_folder else "neither a file nor a known data set"
        raise DataError(f"data set {path}: {fault} ({_get_first_line(error)}){_advise(path, error)}") from error
    except Exception as error:  # the library raises many kinds of errors, its own and those of its HTTP client
        raise DataError(
            f"data set {path} cannot be loaded: {type(error).__name__}: {_get_first_line(error)}{_advise(path, error)}"
        ) from error
    if not isinstance(splits, Mapping):
        raise DataError(f"data set {path} has no splits; save it as a DatasetDict with train and test")
    if split not in splits:
        use = {"test": "to be evaluated on", "train": "to be trained on or to show examples"}.get(split, "for this")
        raise DataError(
            f"data set {path} has no split {split!r}; its splits are {', '.join(map(str, splits))}. Save the items that are "
            f"{use} as a split {split!r}, or give them as a file (JSONL, JSON, CSV, TSV or Parquet)"
        )
    return ((f"{path}, {split} row {i}", row) for i, row in enumerate(splits[split]))


def _load_splits(path: str, options: _HubOptions) -> Any:
    import datasets

    folder = Path(path)
    if any((folder / name).exists() for name in ("dataset_dict.json", "dataset_info.json")):
        return datasets.load_from_disk(path)
    more = {"revision": options.revision or None, "data_files": dict(options.data_files or {}) or None}
    try:
        return datasets.load_dataset(path, options.config or None, **more)
    except ValueError as error:
        # The library has no error class of its own for a configuration that is not there.
        if not options.config or "BuilderConfig" not in str(error):
            raise
        return datasets.load_dataset(path, **more)


def list_local_splits(path: str) -> Sequence[str]:
    """List the splits of a ``DatasetDict`` on the disk, without reading it; none if the path is something else."""
    try:
        names = json.loads((Path(path) / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _advise(path: str, error: Exception) -> str:
    """Return what to do about a data set of the hub that cannot be read; empty for a folder."""
    if Path(path).exists():
        return ""
    text = str(error).lower()
    local = "give a local file (JSONL, JSON, CSV or Parquet) with --dataset-path FILE"
    if any(word in text for word in ("gated", "authenticat", "401", "403")):
        return f"; accept its terms on the hub and set HF_TOKEN, or {local}"
    return f"; check the name and the network, or {local}"


def _get_first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def read_demos(path: str | Path, columns: Columns = _USUAL_COLUMNS) -> Sequence[Example]:
    """Read demonstrations from a file: JSON, JSONL, CSV, TSV or Parquet, with an input, an output and perhaps a domain.

    An empty file has none.

    Args:
        path: the file.
        columns: where an item has its input and its output; the usual columns ``input`` and ``output`` are read too.

    Raises:
        DataError: the file is missing or has another shape; the text names file and line.
    """
    path = Path(path)
    shape = f"a demonstration has the columns {', '.join(columns.inputs) or 'input'} and {columns.output or 'output'}"
    if not path.is_file():
        raise DataError(f"demonstrations file {path} is not there")
    examples = []
    for place, row in _read_file(path):
        try:
            example = (_USUAL_COLUMNS if _USUAL_COLUMNS.are_in(row) else columns).make_item(row)
        except KeyError:
            found = ", ".join(map(str, row)) or "none"
            raise DataError(
                f"{place}: {shape}; the columns here are {found}. Name yours with --input-column and --output-column"
            ) from None
        except ValueError as error:
            raise DataError(f"{place}: {error}; {shape}") from None
        domain = next((value for name, value in row.items() if str(name).casefold() == "domain"), None) or ""
        if not isinstance(domain, str):
            raise DataError(f"{place}: the domain is {domain!r}, but must be a text")
        examples.append(Example(*map(replace_surrogates, (example.input, example.output, domain))))
    return examples
