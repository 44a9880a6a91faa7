"""A world: states and operations. A chain is a start state and one to four operations that are applied one after the other.

There are three worlds. Each operation of a world is a fixed random permutation of the states, and each world has others. The
chains of a world are divided by a hash into those of the development split, those of the test split, and the rest. The
generator and the schooling of the base models draw from the rest only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal, NamedTuple

STATES = 32
OPERATIONS = 16
#: Numbers of the worlds that have a base model.
WORLDS = (1, 2, 3)
#: Possible numbers of operations in a chain.
LENGTHS = (1, 2, 3, 4)
#: Number of operations -> how many items of the test split have it; the development split has half as many.
TEST_ITEMS = {1: 100, 2: 300, 3: 300, 4: 300}

Split = Literal["generator", "dev", "test"]
#: Share of all chains in the held-out splits.
_SHARES: dict[Split, float] = {"test": 0.25, "dev": 0.15}
_CHAIN = re.compile(r"n(0|[1-9]\d?)((?: op(?:0|[1-9]\d?)){1,4}) =")


class Chain(NamedTuple):
    """A start state and the operations that are applied to it, in order."""

    start: int
    operations: tuple[int, ...]

    def __str__(self) -> str:
        """Return the chain as the input of a sample: ``n4 op2 op5 =``."""
        return f"n{self.start} {' '.join(f'op{number}' for number in self.operations)} ="


def read_chain(text: str) -> Chain | None:
    """Read the input of a sample; None if it is not a chain."""
    match = _CHAIN.fullmatch(text.strip()) if len(text) < 100 else None
    if match is None:
        return None
    chain = Chain(int(match[1]), tuple(int(word[2:]) for word in match[2].split()))
    return chain if chain.start < STATES and max(chain.operations) < OPERATIONS else None


@dataclass(frozen=True)
class World:
    """One world.

    Attributes:
        number: which of the worlds it is.
    """

    number: int

    @cached_property
    def permutations(self) -> tuple[tuple[int, ...], ...]:
        """The permutation of each operation: ``permutations[operation][state]`` is the next state."""
        rng = Random(f"permutations of world {self.number}")
        return tuple(tuple(rng.sample(range(STATES), STATES)) for _ in range(OPERATIONS))

    def follow(self, chain: Chain) -> list[int]:
        """Return the state after each operation of a chain."""
        states, state = [], chain.start
        for operation in chain.operations:
            state = self.permutations[operation][state]
            states.append(state)
        return states

    def find_split(self, chain: Chain) -> Split:
        """Return the split that a chain belongs to."""
        digest = hashlib.sha256(f"world {self.number}: {chain}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        for split, share in _SHARES.items():
            if place < share:
                return split
            place -= share
        return "generator"

    def draw(self, rng: Random, length: int, exponent: float, split: Split = "generator") -> Chain:
        """Draw a chain of a split.

        Args:
            rng: draws.
            length: number of operations.
            exponent: the operation with the number k is drawn with a weight of ``(k + 1) ** -exponent``; 0: all alike.
            split: the split that the chain must belong to.
        """
        weights = compute_weights(exponent)
        while True:
            chain = Chain(rng.randrange(STATES), tuple(rng.choices(range(OPERATIONS), weights, k=length)))
            if self.find_split(chain) == split:
                return chain

    def make_held_out_chains(self, split: Literal["dev", "test"]) -> list[Chain]:
        """Make the chains of a held-out split: all different, with operations that are all alike frequent."""
        rng = Random(f"{split} of world {self.number}")
        chains: dict[Chain, None] = {}
        for length, count in TEST_ITEMS.items():
            goal = len(chains) + (count if split == "test" else count // 2)
            while len(chains) < goal:
                chains[self.draw(rng, length, 0.0, split)] = None
        order = list(chains)
        rng.shuffle(order)  # so that the first items have all lengths
        return order


def compute_weights(exponent: float) -> Sequence[float]:
    """Return the weight of each operation by Zipf's law."""
    return [(rank + 1) ** -exponent for rank in range(OPERATIONS)]
