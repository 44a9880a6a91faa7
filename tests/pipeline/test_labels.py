from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.pipeline.labels import balance, compute_tail, describe_starved, find_starved

#: The pool and the selected samples of a run in which the base model never says "unknown".
POOL, SELECTED = {"yes": 64, "no": 60, "unknown": 68}, {"yes": 44, "no": 19, "unknown": 1}


def test_a_label_that_gets_far_too_few_is_starved() -> None:
    assert find_starved(POOL, SELECTED) == ["unknown"]
    assert find_starved(POOL, {"yes": 64}) == ["unknown", "no"], "most frequent first"


@pytest.mark.parametrize(
    ("pool", "selected"),
    [
        ({"a": 50, "b": 50}, {"a": 40, "b": 24}),  # more than half of its share
        ({"a": 97, "b": 3}, {"a": 64}),  # by chance
        ({"a": 5, "b": 5}, {"a": 5, "b": 1}),  # too few to know
        ({str(label): 10 for label in range(21)}, {"0": 100}),  # no classes
        ({"a": 5}, {}),
        ({"a": 9}, {"a": 9}),
    ],
)
def test_chance_and_small_differences_are_not_told(pool: dict[str, int], selected: dict[str, int]) -> None:
    assert find_starved(pool, selected) == []


def test_the_tail_is_that_of_the_binomial_distribution() -> None:
    assert compute_tail(0, 4, 0.5) == pytest.approx(1 / 16)
    assert compute_tail(1, 4, 0.5) == pytest.approx(5 / 16)
    assert compute_tail(4, 4, 0.25) == pytest.approx(1)
    assert compute_tail(3, 4, 1.0) == 0
    assert 0 <= compute_tail(100, 100_000, 0.5) < 1e-300


def test_the_text_has_a_table_of_the_most_frequent_labels() -> None:
    text = describe_starved(["unknown"], POOL, SELECTED, {"unknown": 67})
    assert text.splitlines() == [
        "the selection takes too few samples with the label 'unknown': less than half of their share of all samples. "
        "--balance keeps the labels in proportion (in a new run)",
        "  label      samples  never solved  selected",
        "  'unknown'       68            67         1",
        "  'yes'           64             0        44",
        "  'no'            60             0        19",
    ]
    many = {f"label {number}\n{'x' * 50}": 20 - number for number in range(12)}
    lines = describe_starved([next(iter(many))], many, {}, {}).splitlines()
    assert len(lines) == 11, "one line, a head, eight labels, and the number of the others"
    assert lines[-1] == "  and 4 more labels"
    assert max(map(len, lines[1:])) < 75


def test_balance_keeps_the_labels_in_proportion_and_the_best_of_each() -> None:
    labels = {f"{label}{number}": label for label, n in (("a", 60), ("b", 30), ("c", 10)) for number in range(n)}
    order = sorted(labels)  # all a come first
    chosen = balance(order, labels, 20)
    assert Counter(labels[sample] for sample in chosen) == {"a": 12, "b": 6, "c": 2}
    assert chosen == sorted(chosen), "best first"
    assert chosen[:12] == order[:12], "the best of a label"


@given(st.lists(st.sampled_from("aaabbc"), max_size=60), st.integers(1, 70))
def test_balance_chooses_m_and_no_label_is_off_by_more_than_one(drawn: list[str], m: int) -> None:
    labels = {str(number): label for number, label in enumerate(drawn)}
    chosen = balance(list(labels), labels, m)
    assert len(set(chosen)) == len(chosen) == min(m, len(drawn))
    for label, count in Counter(drawn).items():
        share = len(chosen) * count / len(drawn)
        assert abs(sum(labels[sample] == label for sample in chosen) - share) < 1
