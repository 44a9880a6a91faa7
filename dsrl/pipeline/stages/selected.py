"""Selection: the M samples of highest potential (paper 4.3, Algorithm 1), and the ablations of Table 4."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from dsrl.errors import DataError
from dsrl.pipeline.contamination import find_contamination, warn_about_contamination
from dsrl.pipeline.dev_items import choose_dev_items, hold_out
from dsrl.pipeline.duplicates import find_duplicates
from dsrl.pipeline.labels import balance, describe_starved, describe_unlabelled, find_starved
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.stages.trained import forget_training
from dsrl.settings import ONLINE, Settings
from dsrl.storage.matches import Match
from dsrl.types import Sample, Score


def select_samples(run: OpenRun, iteration: int) -> None:
    """Store the training set and the development items. Both are chosen again if a larger budget has added samples since.

    Raises:
        DataError: there is no sample to train on, or the train split of the user's data cannot be used.
    """
    store, settings = run.store, run.settings
    scores = store.scores(iteration)
    state, pool = store.stages.get_state(iteration, "selected"), store.stages.get_basis(iteration, "selected")
    if state == "finished" and pool == str(len(scores)):
        return
    if state != "pending":
        forget_training(run, iteration)
    with run.clock.measure("selected"):
        set_aside = find_copies(run, [sample for sample in store.samples(iteration) if sample.id in scores])
        copies = {match.sample for match in set_aside}
        samples = [s for s in store.samples(iteration) if s.id in scores and s.id not in copies]
        labels = {sample.id: str(sample.label) for sample in samples}
        tasks = {sample.id: sample.task for sample in samples}
        dev_items = choose_dev_items(run, samples)
        held_out = {item.sample for item in dev_items}
        pool_scores = [scores[sample.id] for sample in samples if sample.id not in held_out]
        agreements = read_agreements(run, iteration) if settings.min_agreement else {}
        candidates, left_out = filter_scores(pool_scores, settings, agreements)
        balanced_labels = labels if settings.balance else None

        rule = "full" if run.context.is_online else run.context.selection_rule

        def choose(some: Sequence[Score], m: int) -> list[str]:
            seed, never_solved = settings.seed, settings.never_solved
            return select(some, m, rule, seed, balanced_labels, tasks, never_solved)

        selected = choose(candidates, settings.select)
        if settings.fill and len(selected) < settings.select:
            easy = find_easy_scores(pool_scores, settings, agreements)
            filling = choose(easy, settings.select - len(selected))
            selected, candidates = selected + filling, candidates + easy
            left_out["too easy"] -= len(filling)
            left_out = +left_out
    if not selected and left_out:
        raise DataError(
            f"there is no sample to train on: {_describe_left_out(left_out)}. Give a lower --min-agreement, or a higher "
            "--max-pass-rate or --fill, in a new run"
        )
    dropped = describe_unlabelled(run.store.count_samples(iteration))
    if not selected:
        raise DataError(
            f"there is no sample to train on{dropped and ': '}{dropped}. `dsrl show {settings.name}` says why samples were "
            f"dropped or set aside, and `dsrl samples {settings.name} --dropped` lists them. Try another teacher or another "
            "task description"
        )
    if dropped:
        run.add_warning(
            f"{dropped}. A teacher that is too weak for the task, or a task that is described too loosely, yields few "
            f"samples: `dsrl samples {settings.name} --dropped` lists them",
            f"selected-{iteration}:dropped",
        )
    if left_out:
        run.add_note(f"samples that cannot be selected: {_describe_left_out(left_out)}")
    if settings.selection == ONLINE:
        run.add_note(_describe_online(run, len(selected)))
    if len(selected) < settings.select and rule != "full":
        run.add_note(f"there are only {len(selected)} samples, fewer than M = {settings.select}; all are selected")
    for task in run.context.tasks:
        own = [score for score in candidates if tasks[score.sample] == task]
        _warn_about_labels(run, iteration, own, [s for s in selected if tasks[s] == task], labels, task)
    store.add_selected(iteration, selected, pool=len(scores), dev_items=dev_items, set_aside=set_aside)
    warn_about_contamination(run, iteration)
    outcome = f"{len(selected)} of {len(candidates)}"
    run.progress.finish("selected", f"{outcome}; {len(dev_items)} development items" if dev_items else outcome)


def _describe_online(run: OpenRun, selected: int) -> str:
    if run.context.is_online:
        return (
            f"the trainer chooses among {selected} samples while it trains, and makes as many steps as with "
            f"{min(selected, run.settings.select)} (--selection online)"
        )
    return (
        f"the trainer {run.context.trainer.name!r} cannot choose samples while it trains (--selection online), so "
        f"{selected} were selected before, as with --selection {run.context.selection_rule}"
    )


def list_selectable(run: OpenRun, iteration: int) -> list[Sample]:
    """Return the scored samples that can be selected whatever their pass rate is, in the order of the slots."""
    scores, settings = run.store.scores(iteration), run.settings
    samples = [sample for sample in run.store.samples(iteration) if sample.id in scores]
    left_out = {match.sample for match in find_copies(run, samples)}
    samples = [sample for sample in samples if sample.id not in left_out]
    if settings.eval_every and settings.eval_data == "samples":
        left_out |= {sample.id for sample in hold_out(samples, settings.seed)}
    if settings.min_agreement:
        agreements = read_agreements(run, iteration)
        left_out |= {sample.id for sample in samples if agreements.get(sample.id, 1.0) < settings.min_agreement}
    return [sample for sample in samples if sample.id not in left_out]


def read_agreements(run: OpenRun, iteration: int) -> dict[str, float]:
    """Return id of a sample -> share of its readable votes that are its label; a sample without votes has 1."""
    return {row.id: 1.0 if row.agreement is None else row.agreement for row in run.store.list_sample_rows(iteration)}


def filter_scores(
    scores: Iterable[Score], settings: Settings, agreements: Mapping[str, float]
) -> tuple[list[Score], Counter[str]]:
    """Leave out the samples that the settings exclude from every selection.

    Args:
        scores: the scores of all samples that could be selected.
        settings: ``min_agreement``, ``max_pass_rate`` and ``never_solved``.
        agreements: id of a sample -> share of its readable votes that are its label, 0 to 1; a missing one is 1.

    Returns:
        The scores that are left, and reason -> how many samples were left out for it.
    """
    kept: list[Score] = []
    left_out: Counter[str] = Counter()
    for score in scores:
        if agreements.get(score.sample, 1.0) < settings.min_agreement:
            left_out["doubtful label"] += 1
        elif score.pass_rate > settings.max_pass_rate:
            left_out["too easy"] += 1
        elif not score.passed and settings.never_solved == "drop":
            left_out["never solved"] += 1
        else:
            kept.append(score)
    return kept, left_out


def find_easy_scores(scores: Iterable[Score], settings: Settings, agreements: Mapping[str, float]) -> list[Score]:
    """Return the samples that :func:`filter_scores` leaves out only because they are solved too often."""
    kept, _ = filter_scores(scores, replace(settings, max_pass_rate=1.0), agreements)
    return [score for score in kept if score.pass_rate > settings.max_pass_rate]


def _describe_left_out(left_out: Counter[str]) -> str:
    meanings = {
        "doubtful label": "have a label with less agreement than --min-agreement",
        "too easy": "are solved more often than --max-pass-rate",
        "never solved": "were never solved (--never-solved drop)",
    }
    return ", ".join(f"{count} {meanings[reason]}" for reason, count in left_out.most_common())


def find_copies(run: OpenRun, samples: Sequence[Sample]) -> list[Match]:
    """Find the samples that cannot be selected: copies of test items, then duplicates among the others."""
    if not run.settings.decontaminate:
        return []
    contaminated = [match for sample in samples if (match := find_contamination(run, sample)) is not None]
    copies = {match.sample for match in contaminated}
    known = [items.index.template for items in run.test_items.values()]
    return contaminated + find_duplicates([sample for sample in samples if sample.id not in copies], known)


def _warn_about_labels(
    run: OpenRun,
    iteration: int,
    candidates: Sequence[Score],
    selected: Iterable[str],
    labels: Mapping[str, str],
    task: str,
) -> None:
    """Warn the user if the selection takes too few samples of a label of one task."""
    pool = Counter(labels[score.sample] for score in candidates)
    chosen = Counter(labels[sample] for sample in selected)
    unsolved = Counter(labels[score.sample] for score in candidates if not score.passed)
    if starved := find_starved(pool, chosen):
        text = describe_starved(starved, pool, chosen, unsolved)
        run.add_warning(f"task {task}: {text}" if task else text, f"selected-{iteration}:labels {task}".rstrip())


def select(
    scores: Iterable[Score],
    m: int,
    rule: str,
    seed: int,
    labels: Mapping[str, str] | None = None,
    tasks: Mapping[str, str] | None = None,
    never_solved: str = "last",
) -> list[str]:
    """Choose the training set.

    M is divided evenly over the tasks of the run, and the rule chooses among the samples of each. What one task cannot fill
    goes to the others.

    Args:
        scores: the scores of all samples.
        m: M, the number of samples to choose; ``full`` ignores it. All are chosen if there are fewer.
        rule: ``potential`` (lowest score first, the paper's), ``easy`` (highest pass rate first), ``hard`` (lowest pass
            rate first, with the samples that were never solved), ``learnability`` (highest p(1-p) first, p being the pass
            rate), ``random``, ``full`` (all).
        seed: breaks ties, in the same way every time.
        labels: id of a sample -> its label; with it, every label keeps its share (:func:`dsrl.pipeline.labels.balance`).
        tasks: id of a sample -> its task; None if the run has one task.
        never_solved: where ``potential`` puts the samples that were never solved: ``last`` (Equation 7) or ``first``.

    Returns:
        The ids of the chosen samples, best first; the tasks take turns.
    """
    pool = sorted(scores, key=lambda score: draw_order(score.sample, seed))
    if rule == "potential":
        pool.sort(key=lambda score: score.pass_rate if never_solved == "first" else score.score)
    elif rule == "learnability":
        pool.sort(key=lambda score: -score.pass_rate * (1 - score.pass_rate))
    elif rule == "easy":
        pool.sort(key=lambda score: -score.pass_rate)
    elif rule == "hard":
        pool.sort(key=lambda score: score.pass_rate)
    elif rule not in ("random", "full"):
        raise ValueError(f"there is no selection rule {rule!r}")
    by_task: dict[str, list[str]] = {}
    for score in pool:
        by_task.setdefault(tasks[score.sample] if tasks else "", []).append(score.sample)
    order = _take_turns(by_task)
    if rule == "full":
        return order
    if labels is None:
        return order[:m]
    chosen = set(order[:m])
    rooms = {task: sum(sample in chosen for sample in own) for task, own in by_task.items()}
    return _take_turns({task: balance(own, labels, rooms[task]) for task, own in by_task.items()})


def _take_turns(by_task: Mapping[str, Sequence[str]]) -> list[str]:
    """Merge the samples of the tasks: the best of each task, then the second of each, and so on."""
    names = sorted(by_task)
    rounds = zip_longest(*(by_task[name] for name in names))
    return [sample for one_round in rounds for sample in one_round if sample is not None]


def draw_order(sample: str, seed: int) -> bytes:
    """Return the place of a sample in a random order: samples of equal score are chosen in it.

    It depends on the sample and the seed alone, not on which other samples there are.
    """
    return hashlib.sha256(f"{seed}:{sample}".encode()).digest()
