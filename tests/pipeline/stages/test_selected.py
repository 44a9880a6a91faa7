from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from choosing_trainer import ChoosingTrainer
from hypothesis import given
from hypothesis import strategies as st
from run_contexts import edit_tasks

from dsrl.pipeline.stages.scored import compute_score
from dsrl.pipeline.stages.selected import filter_scores, select, select_samples
from dsrl.plugins.specs import hookimpl
from dsrl.settings import SELECTIONS, resolve
from dsrl.types import Example, Sample, Score


def make_scores(**passed: int) -> list[Score]:
    """Make scores of ten attempts from sample -> right ones."""
    return [Score(sample, 10, right, compute_score(right, 10)) for sample, right in passed.items()]


SCORES = make_scores(never=0, hard=1, middle=5, easy=9, always=10)
rules = st.sampled_from(SELECTIONS)
scores = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 10)).map(lambda d: make_scores(**d))


@pytest.mark.parametrize(
    ("rule", "m", "chosen"),
    [
        ("potential", 3, ["hard", "middle", "easy"]),
        ("potential", 1, ["hard"]),
        ("easy", 3, ["always", "easy", "middle"]),
        ("hard", 3, ["never", "hard", "middle"]),
        ("learnability", 1, ["middle"]),
    ],
)
def test_the_rules_of_the_paper_choose_by_score(rule: str, m: int, chosen: list[str]) -> None:
    assert select(SCORES, m, rule, 0) == chosen


def test_samples_always_or_never_solved_come_last_by_potential() -> None:
    assert set(select(SCORES, 5, "potential", 0)[3:]) == {"never", "always"}


def test_where_samples_go_that_were_never_solved() -> None:
    assert select(SCORES, 2, "potential", 0, never_solved="first") == ["never", "hard"]
    assert "never" not in select(SCORES, 3, "potential", 0, never_solved="last")


@pytest.mark.parametrize(
    ("settings", "kept", "left_out"),
    [
        ({}, ["never", "hard", "middle", "easy", "always"], {}),
        ({"max_pass_rate": 0.9}, ["never", "hard", "middle", "easy"], {"too easy": 1}),
        ({"never_solved": "drop"}, ["hard", "middle", "easy", "always"], {"never solved": 1}),
        ({"min_agreement": 0.75}, ["never", "hard", "easy", "always"], {"doubtful label": 1}),
        (
            {"min_agreement": 0.75, "max_pass_rate": 0.1, "never_solved": "drop"},
            ["hard"],
            {"doubtful label": 1, "too easy": 2, "never solved": 1},
        ),
    ],
)
def test_samples_that_are_left_out(settings: dict[str, Any], kept: list[str], left_out: dict[str, int]) -> None:
    agreements = {"middle": 0.7, "hard": 0.75, "never": 1.0, "easy": 1.0}  # always: no votes
    rest, counts = filter_scores(SCORES, resolve({"task": "t", "min_agreement": 0.0, **settings}), agreements)
    assert [score.sample for score in rest] == kept
    assert counts == left_out


def test_full_takes_all_whatever_m_is() -> None:
    assert set(select(SCORES, 1, "full", 0)) == {score.sample for score in SCORES}


def test_random_takes_others_under_another_seed() -> None:
    drawn = {tuple(select(SCORES, 2, "random", seed)) for seed in range(40)}
    assert len(drawn) > 5
    assert {sample for pair in drawn for sample in pair} == {score.sample for score in SCORES}


def test_an_unknown_rule_is_a_fault() -> None:
    with pytest.raises(ValueError, match="there is no selection rule 'best'"):
        select(SCORES, 1, "best", 0)


def test_ties_are_broken_the_same_way_every_time_and_by_the_seed() -> None:
    tied = make_scores(**{f"s{number}": 3 for number in range(20)})
    first = select(tied, 5, "potential", 0)
    assert select(tied, 5, "potential", 0) == first
    assert select(tied, 5, "potential", 1) != first
    assert first != [f"s{number}" for number in range(5)], "not the order of writing"


@given(scores, rules, st.integers(1, 30), st.integers(0, 3), st.randoms())
def test_the_choice_does_not_hang_on_the_order_of_input(
    scores: list[Score], rule: str, m: int, seed: int, rng: Any
) -> None:
    turned = list(scores)
    rng.shuffle(turned)
    assert select(turned, m, rule, seed) == select(scores, m, rule, seed)


@given(scores, rules, st.integers(1, 30), st.integers(0, 3), st.data())
def test_the_order_of_two_does_not_hang_on_who_else_is_there(
    scores: list[Score], rule: str, m: int, seed: int, data: Any
) -> None:
    part = data.draw(st.lists(st.sampled_from(scores), unique=True)) if scores else []
    whole = select(scores, len(scores), rule, seed)
    remaining = {score.sample for score in part}
    assert select(part, len(scores), rule, seed) == [sample for sample in whole if sample in remaining]


@given(scores, rules, st.integers(1, 30), st.integers(0, 3))
def test_m_are_chosen_or_all_and_none_twice(scores: list[Score], rule: str, m: int, seed: int) -> None:
    chosen = select(iter(scores), m, rule, seed)
    assert len(set(chosen)) == len(chosen) == (len(scores) if rule == "full" else min(m, len(scores)))
    assert select(scores, len(scores), rule, seed)[: len(chosen)] == chosen, "M more are the same and some"


@given(scores, st.integers(1, 30))
def test_by_potential_no_sample_left_out_scores_lower(scores: list[Score], m: int) -> None:
    chosen = set(select(scores, m, "potential", 0))
    taken = [score.score for score in scores if score.sample in chosen]
    left = [score.score for score in scores if score.sample not in chosen]
    assert not left or max(taken) <= min(left)


# --- a run that selects ----------------------------------------------------------------------------------------------


def fill(run: Any, labels: list[str], passed: dict[str, int] | None = None, first: int = 0) -> None:
    """Store a scored sample for each label; ``passed`` says how many of 4 attempts solve a sample of a label."""
    for slot, label in enumerate(labels, first):
        sample = Sample(f"1-{slot:05d}", 1, slot, "initial", f"q{slot}", "o")
        right = (passed or {}).get(label, 2)
        run.store.add_samples([sample])
        run.store.add_verdicts([(Sample(sample.id, 1, slot, "initial", sample.input, "o", label), [label])])
        run.store.add_scores([(Score(sample.id, 4, right, compute_score(right, 4)), {label: (right, True)})])


def test_without_an_evaluation_all_samples_can_be_selected(make_run: Any) -> None:
    run = make_run(select=100)
    fill(run, ["a", "b"] * 50)
    select_samples(run, 1)
    assert len(run.store.selected(1)) == 100
    assert run.store.dev_items(1) == []
    assert run.store.events() == []


@pytest.mark.parametrize(("n_dropped", "is_told"), [(4, False), (5, True)])
def test_a_teacher_that_yields_few_samples_is_told(make_run: Any, n_dropped: int, is_told: bool) -> None:
    run = make_run(select=4)
    fill(run, ["a"] * 4)
    run.store.add_samples(
        Sample(f"1-{n:05d}", 1, n, "initial", "", "prose", dropped="not_json") for n in range(4, 4 + n_dropped)
    )
    select_samples(run, 1)
    texts = [text for _, level, text in run.store.events() if level == "warning"]
    expected = "only 4 of the 9 initial samples got a label (dropped in all: 5 not json). A teacher that is too weak"
    assert [text.startswith(expected) for text in texts] == [True] * is_told


def test_a_tenth_is_held_out_before_the_selection_and_stays(make_run: Any) -> None:
    run = make_run(select=100, eval_every=5)
    fill(run, ["a", "b"] * 50)
    select_samples(run, 1)
    dev_items, selected = run.store.dev_items(1), run.store.selected(1)
    assert Counter(item.label for item in dev_items) == {"a": 5, "b": 5}
    assert {item.sample for item in dev_items} | set(selected) == {f"1-{slot:05d}" for slot in range(100)}
    assert len(selected) == 90
    assert dev_items[0].input == f"q{int(str(dev_items[0].sample)[2:])}"
    select_samples(run, 1)
    assert run.store.dev_items(1) == dev_items, "a resumed run has the same"
    fill(run, ["a"] * 10, first=100)
    select_samples(run, 1)
    assert len(run.store.dev_items(1)) == 11, "more samples are a new selection"
    assert run.store.count_samples()["held_out"] == 11


def test_too_few_samples_are_told_and_none_is_held_out(make_run: Any) -> None:
    run = make_run(select=50, eval_every=5)
    fill(run, ["a", "b"] * 39)
    select_samples(run, 1)
    assert (run.store.dev_items(1), len(run.store.selected(1))) == ([], 50)
    ((_, _, text),) = run.store.events()
    assert text.startswith("only 78 samples have a score, and of fewer than 80 none is held out")


def test_real_items_leave_all_samples_to_the_selection(make_run: Any, bound: Any) -> None:
    class Task:
        @hookimpl
        def description(self) -> str:
            return "d"

        @hookimpl
        def output_instruction(self) -> str:
            return "o"

        @hookimpl
        def process_prediction(self, output: str) -> str:
            return output

        @hookimpl
        def load_dataset(self, split: str) -> list[Example]:
            return [Example(f"{split} {number}", "a") for number in range(3)]

    run = make_run(select=100, eval_every=5, eval_data="train")
    object.__setattr__(run, "context", edit_tasks(run.context, plugin=bound("task", Task)))
    fill(run, ["a", "b"] * 10)
    select_samples(run, 1)
    assert sorted((item.sample, item.input, item.label) for item in run.store.dev_items(1)) == [
        (None, f"train {number}", "a") for number in range(3)
    ]
    assert len(run.store.selected(1)) == 20
    assert run.store.count_samples()["held_out"] == 0


def test_a_starved_label_is_told_and_balance_mends_it(make_run: Any) -> None:
    run = make_run(select=64)
    fill(run, ["yes", "no", "unknown"] * 64, {"unknown": 0})
    select_samples(run, 1)
    ((_, level, text),) = run.store.events()
    assert level == "warning"
    assert text.startswith("the selection takes too few samples with the label 'unknown'")
    assert "  'unknown'       64            64         0" in text
    run.store.forget_training(1)
    assert run.store.events() == [], "what was said of another selection is forgotten"
    run = make_run(select=64, balance=True)
    select_samples(run, 1)
    counts = Counter(sample.label for sample in run.store.samples(1) if sample.id in run.store.selected(1))
    assert sorted(counts.values()) == [21, 21, 22]
    assert run.store.events() == []


def test_samples_above_the_pass_rate_are_left_out_and_counted(make_run: Any) -> None:
    run = make_run(select=30, max_pass_rate=0.9)
    fill(run, ["a"] * 20 + ["b"] * 20, {"b": 4})
    select_samples(run, 1)
    assert sorted(run.store.selected(1)) == [f"1-{slot:05d}" for slot in range(20)], "M is a maximum"
    first, second = [text for _, _, text in run.store.events() if "b" not in text.split("label")[-1][:4]][:2]
    assert first == "samples that cannot be selected: 20 are solved more often than --max-pass-rate"
    assert second == "there are only 20 samples, fewer than M = 30; all are selected"


def test_fill_takes_the_easy_samples_after_the_others(make_run: Any) -> None:
    run = make_run(select=30, max_pass_rate=0.9, fill=True)
    fill(run, ["a"] * 20 + ["b"] * 20, {"b": 4})
    select_samples(run, 1)
    selected = run.store.selected(1)
    assert sorted(selected[:20]) == [f"1-{slot:05d}" for slot in range(20)]
    assert len(selected) == 30
    assert [text for _, _, text in run.store.events()] == [
        "samples that cannot be selected: 10 are solved more often than --max-pass-rate"
    ]


def test_fill_takes_no_sample_that_another_filter_leaves_out(make_run: Any) -> None:
    run = make_run(select=30, max_pass_rate=0.9, min_agreement=0.75, fill=True)
    fill(run, ["a"] * 20 + ["b"] * 20, {"b": 4})
    run.store._database.execute("INSERT INTO votes VALUES ('1-00039', 1, 'c')")
    select_samples(run, 1)
    assert len(run.store.selected(1)) == 30
    assert "1-00039" not in run.store.selected(1)


def test_a_trainer_that_chooses_gets_all_that_can_be_selected(make_run: Any) -> None:
    run = make_run(plugins={"trainer": ChoosingTrainer}, select=10, selection="online", min_agreement=0.75)
    fill(run, ["a"] * 20 + ["b"] * 20)
    run.store._database.execute("INSERT INTO votes VALUES ('1-00039', 1, 'c')")
    select_samples(run, 1)
    assert sorted(run.store.selected(1)) == [f"1-{slot:05d}" for slot in range(39)]
    assert run.store.events()[-1][2] == (
        "the trainer chooses among 39 samples while it trains, and makes as many steps as with 10 (--selection online)"
    )


def test_a_trainer_that_cannot_choose_gets_what_the_best_rule_selects(make_run: Any) -> None:
    run = make_run(select=20, selection="online")
    fill(run, ["a"] * 20 + ["b"] * 20, {"b": 4})
    select_samples(run, 1)
    assert sorted(run.store.selected(1)) == [f"1-{slot:05d}" for slot in range(20)]
    (text,) = [text for _, _, text in run.store.events() if "--selection online" in text]
    assert text.endswith("so 20 were selected before, as with --selection potential")


# --- several tasks ---------------------------------------------------------------------------------------------------


@given(scores, st.integers(1, 12), rules, st.lists(st.sampled_from(["x", "y", "z"]), min_size=30, max_size=30))
def test_the_tasks_share_m_evenly_as_far_as_they_have_samples(
    pool: list[Score], m: int, rule: str, drawn: list[str]
) -> None:
    tasks = {score.sample: drawn[i % 30] for i, score in enumerate(pool)}
    chosen = select(pool, m, rule, 0, tasks=tasks)
    assert len(set(chosen)) == len(chosen) == (len(pool) if rule == "full" else min(m, len(pool)))
    sizes, counts = Counter(tasks.values()), Counter(tasks[sample] for sample in chosen)
    most = max(counts.values(), default=0)
    assert all(counts[task] >= most - 1 or counts[task] == sizes[task] for task in sizes)
    for task in sizes:  # the rule chooses among the samples of a task as if there were no other
        own = [score for score in pool if tasks[score.sample] == task]
        assert [s for s in chosen if tasks[s] == task] == select(own, max(counts[task], 1), rule, 0)[: counts[task]]


def test_labels_are_balanced_within_each_task() -> None:
    pool = make_scores(**{f"{task}{n}": n % 9 + 1 for task in "xy" for n in range(20)})
    tasks = {score.sample: score.sample[0] for score in pool}
    labels = {
        score.sample: "yes" if score.sample.startswith("x") or int(score.sample[1:]) < 10 else "no" for score in pool
    }
    chosen = select(pool, 20, "potential", 0, labels, tasks)
    assert Counter((tasks[s], labels[s]) for s in chosen) == {("x", "yes"): 10, ("y", "yes"): 5, ("y", "no"): 5}
