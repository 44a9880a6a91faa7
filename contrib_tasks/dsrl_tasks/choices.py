"""What the tasks with lettered options share: the form of an input, options and labels of data sets, and how to read those.

An input is a text, or a context and a question, and then one line for each option::

    Which gas do plants take in?
    A: oxygen
    B: nitrogen
    C: carbon dioxide
    D: helium
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from dsrl import DataError, DatasetInfo, Example

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Row = Mapping[str, Any]


def write_input(question: str, options: Sequence[str], context: str = "") -> str:
    """Write a question with its options, one line for each option; the context stands before it, if there is one."""
    head = f"Context: {context.strip()}\nQuestion: {question.strip()}" if context else question.strip()
    lines = (f"{letter}: {' '.join(option.split())}" for letter, option in zip(LETTERS, options, strict=False))
    return "\n".join((head, *lines))


def read_options(value: Any, number: int) -> list[str]:
    """Read the options of a row.

    Args:
        value: a list of texts, a mapping of letters to texts, a list of mappings with ``key`` and ``value``, or one of these
            as JSON, as it stands in a CSV file.
        number: how many options there must be.

    Raises:
        ValueError: the options have another form or another number.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError("the options are neither a list nor JSON") from error
    if isinstance(value, Sequence) and value and all(isinstance(option, Mapping) for option in value):
        if any("key" not in option or "value" not in option for option in value):
            raise ValueError("an option has no key or no value")
        value = {option["key"]: option["value"] for option in value}
    if isinstance(value, Mapping):
        if sorted(value, key=str) != list(LETTERS[:number]):
            raise ValueError(f"the options have the letters {', '.join(map(str, value))}, not {_list(number)}")
        value = [value[letter] for letter in LETTERS[:number]]
    if not isinstance(value, Sequence) or not all(isinstance(option, str) and option.strip() for option in value):
        raise ValueError("the options are not a list of texts")
    if len(value) != number:
        raise ValueError(f"there are {len(value)} options, not {number}")
    return [option.strip() for option in value]


def read_letter(label: Any, number: int) -> str:
    """Return the letter that a row gives as its label: a letter in either case, or an index that begins with 0.

    Raises:
        ValueError: the label names none of the first ``number`` letters.
    """
    text = str(label).strip().rstrip(".").upper()
    letter = find_letter(text, number) or text
    if len(letter) != 1 or letter not in LETTERS[:number]:
        raise ValueError(f"the label {str(label)[:40]!r} is not one of {_list(number)}, and no index 0 to {number - 1}")
    return letter


def find_letter(output: str, number: int) -> str | None:
    """Return the letter that a bare index stands for, e.g. C for ``2``; None if the text is no index."""
    text = output.strip()
    is_index = len(text) == 1 and text in "0123456789"[:number]
    return LETTERS[int(text)] if is_index else None


def shuffle_options(options: Sequence[str], right: int, seed: int, row: str) -> tuple[list[str], str]:
    """Shuffle the options of a row.

    The order depends on the seed and on the row alone, so a row has the same order in every subset of a data set.

    Args:
        options: the options.
        right: the index of the right one.
        seed: another seed gives another order.
        row: a text that tells the row from others, e.g. its question.

    Returns:
        The shuffled options, and the letter of the right one.
    """
    text = json.dumps([seed, row, *options])
    order = list(range(len(options)))
    Random(hashlib.sha256(text.encode()).digest()).shuffle(order)
    return [options[i] for i in order], LETTERS[order.index(right)]


def read_items(
    path: str,
    split: str,
    read_row: Callable[[Row], Example | None],
    info: DatasetInfo,
    hub_files: Mapping[str, tuple[str, str]],
) -> list[Example]:
    """Read items of a data set: the usual one from the hub, or another one of the same form.

    Args:
        path: a file, a folder or a hub id; empty for the usual data set.
        split: ``train`` or ``test``.
        read_row: makes an item from a row of the usual data set. A row with ``input`` and ``output`` needs no such function.
        info: the usual data set.
        hub_files: our split -> the split of the usual data set and the pattern of its files; an empty pattern leaves it to
            the library to find them.

    Raises:
        DataError: the data set cannot be read, or has no such items.
    """
    from dsrl.datasets import read_dataset, read_input_output

    def convert(row: Row) -> Example | None:
        is_pair = {"input", "output"} <= {str(name).lower() for name in row}
        return read_input_output(row) if is_pair else read_row(row)

    if path and path.casefold() != info.id.casefold():
        return read_dataset(path, split, convert, config=info.config)
    if split not in hub_files:
        raise DataError(
            f"data set {info.id} has no items for the split {split!r}: all of them are for evaluation; give other items "
            "with --dataset-path"
        )
    hub_split, pattern = hub_files[split]
    return read_dataset(
        info.id,
        hub_split,
        convert,
        config="" if pattern else info.config,
        revision=info.revision,
        data_files={hub_split: pattern} if pattern else None,
    )


def _list(number: int) -> str:
    return ", ".join(LETTERS[:number])
