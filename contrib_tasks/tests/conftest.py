"""Fixtures for the tests of the tasks."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dsrl.testing.fixtures import bound, install  # noqa: F401 - pytest finds them here

#: Writes rows to a file and returns its path.
WriteRows = Callable[..., str]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Return a function that writes rows to a file whose suffix says its form: JSONL, CSV, TSV or Parquet."""

    def write(rows: Sequence[Mapping[str, Any]], suffix: str = ".jsonl", name: str = "items") -> str:
        path = tmp_path / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
        elif suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",")
                writer.writeheader()
                writer.writerows({key: _to_cell(value) for key, value in row.items()} for row in rows)
        return str(path)

    return write


def _to_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value
