from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dsrl.errors import DataError, PluginError
from dsrl.storage.run_log import LOG_FILE, NOTES, is_note, mark_as_note, run_log, sanitize


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "trial"
    path.mkdir(parents=True)
    return path


def read_log(folder: Path) -> str:
    return (folder / LOG_FILE).read_text(encoding="utf-8")


def test_the_log_holds_start_notes_and_end(folder: Path) -> None:
    with run_log(folder):
        logging.getLogger(NOTES).info("just so")
    logging.getLogger("dsrl").warning("after the run")
    texts = [line.split(": ", 1)[1] for line in read_log(folder).splitlines()]
    assert texts == ["work on run 'trial' starts", "just so", "work has ended"]


def test_what_happens_before_the_folder_exists_is_written_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    with run_log(folder):
        assert not folder.exists(), "the log does not make the folder"
        folder.mkdir()
    assert "work on run 'trial' starts" in read_log(folder)


@pytest.mark.parametrize(
    ("error", "is_told_where"), [(KeyError("bug"), True), (PluginError("plugin"), True), (DataError("data"), False)]
)
def test_the_traceback_of_an_error_is_in_the_log(folder: Path, error: Exception, is_told_where: bool) -> None:
    with pytest.raises(type(error)) as caught, run_log(folder):
        raise error
    assert "Traceback (most recent call last)" in read_log(folder)
    notes = [f"the traceback is in {folder / LOG_FILE}"] if is_told_where else []
    assert getattr(caught.value, "__notes__", []) == notes


def test_a_long_text_is_shortened_in_its_middle_and_keys_are_masked() -> None:
    text = sanitize("start" + "x" * 30_000 + "end")
    assert text.startswith("startx")
    assert text.endswith("xend")
    assert "[... 10008 characters left out ...]" in text
    assert "sk-proj-1234567890abcdef" not in sanitize("\x1b[1mkey sk-proj-1234567890abcdef")
    assert "\x1b" not in sanitize("\x1b[1mkey")


def test_a_record_becomes_a_note_when_it_is_marked() -> None:
    record = logging.LogRecord("plugin", logging.WARNING, "f", 1, "slow", (), None)
    assert not is_note(record)
    mark_as_note(record)
    assert is_note(record)
