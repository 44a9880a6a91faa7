"""The tasks ``chains`` and ``chain_classes``: they ask for the end of a chain of operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Literal

from dsrl import UNREADABLE, Example, SettingsError, Solved, hookimpl
from dsrl.types import Answer
from dsrl_worlds.world import LENGTHS, STATES, WORLDS, Chain, World, read_chain

#: Zipf exponent of the operations in the samples of the generator.
EXPONENT = 1.0
#: Number of classes of ``chain_classes``.
CLASSES = 3
#: Characters of the longest output that is read; a right output has about 20.
_LONGEST = 1000
_STATES = frozenset(f"n{number}" for number in range(STATES))
_CLASSES = frozenset(f"c{number}" for number in range(CLASSES))


class Chains:
    """The answer is the last state of a chain, one of 32.

    Args:
        world: number of the world, 1 to 3: each has other rules, and a base model of its own.
        split: the items of an evaluation without ``--dataset-path``: ``test``, or ``dev`` to choose settings.
    """

    def __init__(self, world: int = 1, split: str = "test") -> None:
        if world not in WORLDS or isinstance(world, bool):
            raise SettingsError(f"--task-option world={world!r}: the worlds are {', '.join(map(str, WORLDS))}")
        if split not in ("dev", "test"):
            raise SettingsError(f"--task-option split={split!r} must be dev or test")
        self._world = World(world)
        self._split: Literal["dev", "test"] = "dev" if split == "dev" else "test"

    @hookimpl
    def description(self) -> str:
        """Return what the task is and what it takes."""
        return (
            "There are 32 states, n0 to n31, and 16 operations, op0 to op15. Each operation leads from every state to one "
            "other or the same state. The rules of the operations are not written down: they must be known by heart. Each "
            f"input has a start state and one to four operations. {self._goal}"
        )

    @hookimpl
    def input_instruction(self) -> str:
        """Return what an input looks like."""
        return (
            "An input is one line: the start state, one to four operations in the order in which they are applied, and an "
            "equals sign, with one space between them. Example: n4 op2 op5 ="
        )

    @hookimpl
    def output_instruction(self) -> str:
        """Return how to write an answer. The tokenizers of the base models have one token for this text."""
        return "Write the state after each operation, then a full stop."

    @hookimpl
    def base_model(self) -> str:
        """Return the base model that knows the rules of this world in part."""
        return f"chains-{self._world.number}"

    @hookimpl
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example]:
        """Read a data set with input and output; without a path, make the held-out items."""
        if path:
            from dsrl.datasets import read_dataset, read_input_output

            return read_dataset(path, split, read_input_output)
        return self.make_held_out_items()

    @hookimpl
    def process_prediction(self, output: str) -> Answer:
        """Return the last word before the full stop that ends an output, if every word can stand there."""
        words = output.split() if len(output) <= _LONGEST else []
        if len(words) < 2 or words[-1] != "." or words[-2] not in self._answers or not _STATES.issuperset(words[:-2]):
            return UNREADABLE
        return words[-2]

    @hookimpl
    def procedural_sample(self, seed: int, difficulty: int) -> Example:
        """Draw a chain; its number of operations is the difficulty."""
        length = min(max(difficulty, LENGTHS[0]), LENGTHS[-1])
        return self._make_example(self._world.draw(Random(seed), length, EXPONENT))

    @hookimpl
    def procedural_solve(self, input: str) -> Solved | None:
        """Solve a chain."""
        chain = read_chain(input)
        return Solved(self._write_output(chain), len(chain.operations)) if chain else None

    def make_held_out_items(self) -> Sequence[Example]:
        """Make the items of the split. The generator cannot draw any of them, and no base model has seen one."""
        return [self._make_example(chain) for chain in self._world.make_held_out_chains(self._split)]

    _goal = "The answer is the last state."
    _answers = _STATES

    def _write_output(self, chain: Chain) -> str:
        return " ".join([*(f"n{state}" for state in self._world.follow(chain)), "."])

    def _make_example(self, chain: Chain) -> Example:
        return Example(str(chain), self._write_output(chain))


class ChainClasses(Chains):
    """The answer is the class of the last state of a chain: its number modulo 3.

    With so few answers, a wrong label is often the answer that the base model gives.

    Args:
        world, split: as in :class:`Chains`.
    """

    @hookimpl
    def output_instruction(self) -> str:
        """Return how to write an answer. The tokenizers of the base models have one token for this text."""
        return "Write the state after each operation, then the class of the last one, then a full stop."

    _goal = "The answer is the class of the last state: c0, c1 or c2, the rest when the number of the state is divided by 3."
    _answers = _CLASSES

    def _write_output(self, chain: Chain) -> str:
        states = self._world.follow(chain)
        return " ".join([*(f"n{state}" for state in states), f"c{states[-1] % CLASSES}", "."])
