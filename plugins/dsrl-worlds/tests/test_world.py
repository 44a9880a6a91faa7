from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from dsrl_worlds.world import LENGTHS, OPERATIONS, STATES, TEST_ITEMS, WORLDS, Chain, World, read_chain
from hypothesis import given
from hypothesis import strategies as st

CHAINS = st.builds(
    Chain,
    st.integers(0, STATES - 1),
    st.lists(st.integers(0, OPERATIONS - 1), min_size=1, max_size=4).map(tuple),
)


@given(CHAINS)
def test_a_chain_is_read_as_it_was_written(chain: Chain) -> None:
    assert read_chain(str(chain)) == chain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n4 =",
        "n4 op2",
        "n32 op1 =",
        "n4 op16 =",
        "n04 op2 =",
        "n4  op2 =",
        "n4 op1 op1 op1 op1 op1 =",
        "n4 op2 = n1",
    ],
)
def test_what_is_no_chain_is_not_read(text: str) -> None:
    assert read_chain(text) is None


def test_a_chain_is_followed_operation_by_operation() -> None:
    world = World(1)
    first, second = world.permutations[2][4], world.permutations[5][world.permutations[2][4]]
    assert world.follow(Chain(4, (2, 5))) == [first, second]
    assert all(sorted(permutation) == list(range(STATES)) for permutation in world.permutations)


def test_the_worlds_have_different_rules_and_test_items() -> None:
    assert len({World(number).permutations for number in WORLDS}) == len(WORLDS)
    assert len({tuple(World(number).make_held_out_chains("test")) for number in WORLDS}) == len(WORLDS)


@pytest.mark.parametrize("number", WORLDS)
def test_the_held_out_splits_are_whole_apart_and_fixed(number: int) -> None:
    test, dev = (World(number).make_held_out_chains(split) for split in ("test", "dev"))
    assert Counter(len(chain.operations) for chain in test) == TEST_ITEMS
    assert Counter(len(chain.operations) for chain in dev) == {length: n // 2 for length, n in TEST_ITEMS.items()}
    assert len(set(test) | set(dev)) == len(test) + len(dev)
    assert World(number).make_held_out_chains("test") == test
    assert {len(chain.operations) for chain in test[:50]} == set(LENGTHS)


def test_the_generator_cannot_draw_a_held_out_chain() -> None:
    """Every chain of one and two operations is looked at, and many draws of the others."""
    world = World(1)
    held_out = {*world.make_held_out_chains("test"), *world.make_held_out_chains("dev")}
    assert not any(world.find_split(chain) == "generator" for chain in held_out)
    rng = Random(0)
    drawn = [world.draw(rng, length, 0.0) for length in LENGTHS for _ in range(3000)]
    assert not held_out.intersection(drawn)
    # So many draws would have met held-out chains of one operation, if the generator could draw them.
    short = {chain for chain in drawn if len(chain.operations) == 1}
    everything = {Chain(state, (operation,)) for state in range(STATES) for operation in range(OPERATIONS)}
    assert short == {chain for chain in everything if world.find_split(chain) == "generator"}


def test_operations_follow_the_law_of_zipf() -> None:
    rng = Random(0)
    counts = Counter(number for _ in range(5000) for number in World(1).draw(rng, 2, 1.0).operations)
    assert counts[0] / counts[3] == pytest.approx(4, rel=0.25)
    assert set(counts) == set(range(OPERATIONS))
