"""The real items of a task: its test split, and its train split, from the task's own data or from the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from dsrl.datasets import Columns, read_dataset
from dsrl.errors import DataError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TaskSpec
from dsrl.text import printable, replace_surrogates
from dsrl.types import UNREADABLE, Example

#: Gold answers that no parser reads, of which an error shows the text.
_SHOWN_ANSWERS = 5
_LONGEST_ANSWER = 40


def load_examples(
    task: Plugin[TaskSpec], path: str, split: Literal["train", "test"], columns: Columns | None = None
) -> Iterable[Example] | None:
    """Read a split of the data of a task; None if the task has no data of its own and no path is given.

    Args:
        task: reads the data.
        path: the value of ``--dataset-path``; empty for the task's own data.
        split: the split.
        columns: the columns that the user has named. Then dsrl reads the file itself, and not the task.

    Raises:
        DataError: the data cannot be read.
    """
    if columns and path:
        examples = read_dataset(path, split, columns.make_item)
        return [Example(*map(replace_surrogates, (e.input, e.output, e.domain))) for e in examples]
    return task.hook.load_dataset(path=path, split=split)


def choose_demos(
    task: Plugin[TaskSpec], path: str, count: int, seed: int, columns: Columns | None = None
) -> tuple[Example, ...]:
    """Draw demonstrations from the train split, as evenly over the labels as there are items of each.

    Items that are also in the test split are left out.

    Args:
        task: reads the data and the labels.
        path: the value of ``--dataset-path``; empty for the task's own data.
        count: how many; fewer if the split has fewer.
        seed: draws them.
        columns: as in :func:`load_examples`.

    Raises:
        DataError: there is no train split, nothing is left of it, or a gold answer cannot be read.
    """
    name = path or f"the task {task.name!r}"
    examples = load_examples(task, path, "train", columns)
    if examples is None:
        raise DataError(
            f"--demos-from-train: the task {task.name!r} has no train split of its own; give one with --dataset-path, or "
            "give --demos FILE"
        )
    tests = {normalise(example.input) for example in load_examples(task, path, "test", columns) or ()}
    real = {normalise(e.input): e for e in examples if normalise(e.input) not in tests}
    if not real:
        raise DataError(
            f"--demos-from-train: every item of the train split of {name} is also a test item (a file has only one split); "
            "give a data set with the splits train and test, or give --demos FILE"
        )
    drawn = [real[text] for text in sorted(real, key=lambda text: draw(seed, "demonstration", text))]
    by_label: dict[str, list[Example]] = {}
    for example, label in label_items(task, drawn, f"the train split of {name}"):
        by_label.setdefault(label, []).append(example)
    rounds = range(max(map(len, by_label.values())))
    return tuple(items[n] for n in rounds for items in by_label.values() if n < len(items))[:count]


def label_items(task: Plugin[TaskSpec], examples: Iterable[Example], name: str) -> Iterator[tuple[Example, str]]:
    """Yield each item with its label.

    Args:
        task: reads the labels.
        examples: the items.
        name: what the items are, for the error.

    Raises:
        DataError: gold answers cannot be read. It counts them, when all items are read, and shows some.
    """
    total, unreadable = 0, dict[str, int]()
    first = 0
    for total, example in enumerate(examples, 1):
        label = task.hook.process_label(output=example.output, input=example.input)
        if label is not UNREADABLE:
            yield example, str(label)
            continue
        first = first or total
        text = example.output.strip()[-_LONGEST_ANSWER:]
        unreadable[text] = unreadable.get(text, 0) + 1
    if unreadable:
        raise DataError(_describe_unreadable(task, unreadable, total, first, name))


def _describe_unreadable(task: Plugin[TaskSpec], unreadable: dict[str, int], total: int, first: int, name: str) -> str:
    most = sorted(unreadable.items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{printable(text)!r} ({count})" for text, count in most[:_SHOWN_ANSWERS])
    more = f" and {len(most) - _SHOWN_ANSWERS} more" if len(most) > _SHOWN_ANSWERS else ""
    names = ", ".join(list_choices(task))
    choices = f"; the choices of the task are {names}" if names else ""
    return (
        f"no answer can be read in the gold output of {sum(unreadable.values())} of the {total} items of {name}, the first "
        f"of them item {first}: {shown}{more}{choices}. Correct them or leave them out of the file"
    )


def list_choices(task: Plugin[TaskSpec]) -> Sequence[str]:
    """List the possible answers of a task; none if any text is possible, or if it has no answer format."""
    answer_format = task.hook.answer_format() if task.implements("answer_format") else None
    return answer_format.choices if answer_format else ()


def normalise(text: str) -> str:
    """Return a text that is equal for inputs that differ only in upper and lower case and in white space."""
    return " ".join(text.casefold().split())


def draw(seed: int, purpose: str, item: object) -> bytes:
    """Return a key that puts items in a random order, the same every time."""
    return hashlib.sha256(f"{purpose}:{seed}:{item}".encode("utf-8", "replace")).digest()
