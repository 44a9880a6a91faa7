"""The rows of Parquet files, of Arrow files, in which Hugging Face data sets are stored, and of CSV and TSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsrl.corpus.lines import OnRead, ignore_bytes, make_read_error
from dsrl.errors import DataError

#: The columns that are read; the others cost nothing.
COLUMNS = ("text", "title", "id")
#: Rows that are in memory at once.
_ROWS = 256


def read_rows(path: Path, name: str, on_read: OnRead = ignore_bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number (from 1) and fields of every row. Texts are bytes, which may be invalid UTF-8.

    Of a table without the column ``text``, only the first row is yielded, with the names of all columns.

    Args:
        path: a file that ends with ``.parquet``, ``.arrow``, ``.csv`` or ``.tsv``.
        name: the file, for errors.
        on_read: is called with the number of bytes that were read, approximately.

    Raises:
        DataError: the file cannot be read or is damaged.
    """
    if path.name.lower().endswith((".csv", ".tsv")):
        yield from _read_csv(path, name, on_read)
        return
    import pyarrow as pa

    number = 0
    try:
        for batch in _read_batches(path, on_read):
            if "text" not in batch.schema.names:
                yield 1, dict.fromkeys(batch.schema.names)
                return
            for start in range(0, batch.num_rows, _ROWS):
                part = batch.slice(start, _ROWS)
                columns = {
                    column: _list_values(part.column(column)) for column in COLUMNS if column in part.schema.names
                }
                for row in zip(*columns.values(), strict=True):
                    number += 1
                    yield number, dict(zip(columns, row, strict=True))
    except (pa.ArrowException, EOFError) as error:
        raise DataError(
            f"{name} is damaged after row {number:,} ({error}). Download or write the file again."
        ) from error
    except OSError as error:
        raise make_read_error(name, error) from error


def _read_csv(path: Path, name: str, on_read: OnRead) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a CSV or TSV file by the number of their last line; the names of columns in any case."""
    try:
        # Bytes that are not UTF-8 come through, so that only their row is bad.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.name.lower().endswith(".tsv") else ",")
            header = [column.strip().lower() for column in next(reader, [])]
            if "text" not in header:
                if header:
                    yield 1, dict.fromkeys(header)
                return
            for row in reader:
                if row:
                    fields = dict(zip(header, row, strict=False))
                    yield (
                        reader.line_num,
                        {c: fields[c].encode("utf-8", "surrogateescape") for c in COLUMNS if c in fields},
                    )
            on_read(path.stat().st_size)
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num + 1}: not CSV ({error}). Write the file again.") from error
    except OSError as error:
        raise make_read_error(name, error) from error


def _read_batches(path: Path, on_read: OnRead) -> Iterator[Any]:
    if path.name.lower().endswith(".parquet"):
        yield from _read_parquet(path, on_read)
    else:
        yield from _read_arrow(path)
        on_read(path.stat().st_size)


def _read_parquet(path: Path, on_read: OnRead) -> Iterator[Any]:
    import pyarrow.parquet as pq

    size, done = path.stat().st_size, 0
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        columns = [column for column in COLUMNS if column in names] if "text" in names else None
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            yield batch
            done += batch.num_rows
            on_read(size * done // file.metadata.num_rows - size * (done - batch.num_rows) // file.metadata.num_rows)


def _read_arrow(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            source.seek(0)
            file = pa.ipc.open_file(source)
            reader = (file.get_batch(number) for number in range(file.num_record_batches))
        for batch in reader:
            batch.validate(full=True)  # a damaged file could otherwise crash the process
            yield batch


def _list_values(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # As bytes: otherwise a single value that is not UTF-8 would make all the others unreadable.
    if str(column.type) in ("string", "large_string", "string_view"):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return values
