"""Read LogiQA from its authors' text files: ``Train.txt``, ``Eval.txt`` and ``Test.txt``.

An item has eight lines: an empty line, the letter of the right option, the context, the question, and four options that
begin with their letter, e.g. ``A.``.
"""

from __future__ import annotations

import re
from pathlib import Path

from dsrl import DataError, Example

LINES = 8
_FILES = {"train": "Train.txt", "test": "Test.txt"}
_PREFIX = re.compile(r"([A-D])\s?[.:)、．]\s*")


def find_file(path: Path, split: str) -> Path | None:
    """Return the text file that a path means: the file itself, or the split's file in a folder. None if it means none."""
    if path.suffix.lower() == ".txt" and path.is_file():
        return path
    inside = path / _FILES[split]
    return inside if inside.is_file() else None


def read_text_file(path: Path) -> list[Example]:
    """Read a text file.

    Raises:
        DataError: an item has another form; the text names file and line.
    """
    from dsrl_tasks.choices import read_letter, write_input

    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"data set {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"data set {path} cannot be read: {error.strerror}") from error
    examples = []
    for start in range(0, len(lines), LINES):
        item = [line.strip() for line in lines[start : start + LINES]]
        place = f"{path}:{start + 1}"
        if item[0] or len(item) < LINES or not all(item[1:]):
            raise DataError(
                f"{place}: an item has eight lines: an empty line, the letter of the right option, the context, the "
                "question and four options"
            )
        try:
            letter = read_letter(item[1], 4)
        except ValueError as error:
            raise DataError(f"{path}:{start + 2}: {error}") from error
        options = [_strip_letter(option, i) for i, option in enumerate(item[4:])]
        examples.append(Example(write_input(item[3], options, item[2]), letter))
    return examples


def _strip_letter(option: str, number: int) -> str:
    match = _PREFIX.match(option)
    return option[match.end() :] if match and match[1] == "ABCD"[number] else option
