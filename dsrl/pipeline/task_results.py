"""The results of a run for each of its tasks and domains: what became of the samples, and the accuracy of both models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from dsrl.pipeline.stages.evaluated import compute_gain, compute_mean_gain
from dsrl.pipeline.task_settings import name_task
from dsrl.storage.run_store import RunStore

#: Number of a test item -> whether a model answered it correctly.
Answers = Mapping[int, bool]


@dataclass(frozen=True, slots=True)
class PartResult:
    """The result for one task of a run, or for one domain of a task.

    Attributes:
        task: name of the task.
        domain: the domain; empty for the whole task.
        initial, verified, scored, selected: number of samples: written first, with a label (rewritten ones too), with a
            pass rate, in the training set.
        n_test: number of test items.
        base_accuracy, trained_accuracy: share of the test items that the model answers correctly; None until evaluated, and
            without test items.
        gain_ci95: bounds of the paired 95% confidence interval of the gain in accuracy; None until evaluated.
    """

    task: str
    domain: str
    initial: int
    verified: int
    scored: int
    selected: int
    n_test: int
    base_accuracy: float | None
    trained_accuracy: float | None
    gain_ci95: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Accuracies:
    """The accuracy of both models on all test items, or with several tasks the mean over the tasks; None if not known."""

    base: float | None
    trained: float | None
    gain_ci95: tuple[float, float] | None


def compute_accuracies(store: RunStore, tasks: Sequence[str], leave_out: Set[int] = frozenset()) -> Accuracies:
    """Compute the accuracies of a whole run.

    With several tasks, each counts equally, however many test items it has (macro average).

    Args:
        store: the store of the run.
        tasks: the names of its tasks.
        leave_out: numbers of test items that do not count.
    """
    items = store.items()
    keys = [name_task(task) for task in tasks] if len(tasks) > 1 else [""]
    numbers = [
        [number for number, item in enumerate(items) if item.task == key and number not in leave_out] for key in keys
    ]
    base, trained = store.evaluations("base"), store.evaluations("trained")
    pairs = [(_choose(base, own), _choose(trained, own)) for own in numbers]
    gain = None
    if all(known is not None and known_trained is not None for known, known_trained in pairs):
        _, gain = compute_mean_gain([(known or {}, known_trained or {}) for known, known_trained in pairs])
    return Accuracies(_average(known for known, _ in pairs), _average(known for _, known in pairs), _round(gain))


def list_parts(store: RunStore, tasks: Sequence[str]) -> list[PartResult]:
    """List the results of the parts of a run: each task if there are several, then its domains if it has several.

    Args:
        store: the store of the run.
        tasks: the names of its tasks.
    """
    find_parts = _PartFinder(store)
    parts = []
    for name in map(name_task, tasks):
        key = name if len(tasks) > 1 else ""
        domains = find_parts.list_domains(key)
        if key:
            parts.append(find_parts.make(name, key, ""))
        if len(domains) > 1:
            parts += [find_parts.make(name, key, domain) for domain in domains]
    return parts


class _PartFinder:
    """Reads a run once and counts for each part."""

    def __init__(self, store: RunStore) -> None:
        self._written = store.count_by_part()
        self._items = store.items()
        self._base, self._trained = store.evaluations("base"), store.evaluations("trained")

    def list_domains(self, task: str) -> list[str]:
        """List the domains of samples, then those that only test items have."""
        of_samples = [domain for own, domain in self._written if own == task and domain]
        of_items = sorted({item.domain for item in self._items if item.task == task and item.domain})
        return list(dict.fromkeys([*of_samples, *of_items]))

    def make(self, name: str, task: str, domain: str) -> PartResult:
        def belongs(own_task: str, own_domain: str) -> bool:
            return own_task == task and (not domain or own_domain == domain)

        counts = _sum_counts(self._written, belongs)
        own = [number for number, item in enumerate(self._items) if belongs(item.task, item.domain)]
        base, trained = _choose(self._base, own), _choose(self._trained, own)
        gain = compute_gain(base, trained)[1] if base is not None and trained is not None else None
        return PartResult(
            task=name,
            domain=domain,
            initial=counts["initial"],
            verified=counts["verified"],
            scored=counts["scored"],
            selected=counts["selected"],
            n_test=len(own),
            base_accuracy=_average([base]),
            trained_accuracy=_average([trained]),
            gain_ci95=_round(gain),
        )


def _sum_counts(
    counts: Mapping[tuple[str, str], Mapping[str, int]], belongs: Callable[[str, str], bool]
) -> Counter[str]:
    total: Counter[str] = Counter()
    for part, own in counts.items():
        if belongs(*part):
            total.update(own)
    return total


def _choose(answers: Answers, numbers: Sequence[int]) -> dict[int, bool] | None:
    """Return the answers to these items; None if there are none, or if some are missing."""
    chosen = {number: answers[number] for number in numbers if number in answers}
    return chosen if chosen and len(chosen) == len(numbers) else None


def _average(parts: Iterable[Answers | None]) -> float | None:
    shares = [None if part is None else sum(part.values()) / len(part) for part in parts]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if len(known) == len(shares) else None


def _round(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if bounds is None else (round(bounds[0], 4), round(bounds[1], 4))
