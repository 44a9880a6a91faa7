"""Choice of the items of each training step, by what the model answers now (``--selection online``).

Every item has a Beta posterior of its pass rate. It begins with what the run knows: the greedy attempt and the attempts of
the stage ``scored``. When an item is answered in a step, its evidence so far decays, because the model has changed, and the
new answers are added. For a step, a pass rate is drawn from each posterior (Thompson sampling), and the items with the
highest utility of the drawn rate are taken. This is the approach of MoPPS (Qu et al. 2025, arXiv 2507.04632).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random

from dsrl import TrainItem

#: What the evidence for an item is multiplied with when it is answered again.
DECAY = 0.7


def compute_learnability(rate: float, group_size: int) -> float:
    """Return p(1-p): the variance of the reward of an answer, which is 1 with the probability p and otherwise 0."""
    return rate * (1 - rate)


def compute_liveness(rate: float, group_size: int) -> float:
    """Return (1 - p^G - (1-p)^G)(1-p): the probability that G answers are not all alike, times what is left to learn."""
    return (1 - rate**group_size - (1 - rate) ** group_size) * (1 - rate)


#: Name -> the utility of training on an item of a pass rate with groups of a size.
UTILITIES: Mapping[str, Callable[[float, int], float]] = {
    "learnability": compute_learnability,
    "liveness": compute_liveness,
}


class OnlineChoice:
    """The posteriors of the items of one training.

    All draws depend on the seed, the number of the step and the posteriors only.

    Args:
        items: the pool.
        group_size: answers per item in a step.
        seed: of the draws.
        utility: a key of :data:`UTILITIES`.
    """

    def __init__(self, items: Sequence[TrainItem], group_size: int, seed: int, utility: str) -> None:
        self._items, self._group_size, self._seed, self._utility = items, group_size, seed, UTILITIES[utility]
        self._evidence = {item.id: _count_known(item) for item in items}

    def choose(self, count: int, step: int, without: Collection[str] = ()) -> list[TrainItem]:
        """Return the items to answer next, best first; fewer if there are not so many. The tasks of the run take turns.

        Args:
            count: number of items.
            step: number of the training step.
            without: ids of items that are answered in this step already.
        """
        rng = Random(f"{self._seed}/choice/{step}/{len(without)}")
        by_task: dict[str, list[tuple[float, int]]] = {}
        for number, item in enumerate(self._items):
            passed, failed = self._evidence[item.id]
            utility = self._utility(rng.betavariate(1 + passed, 1 + failed), self._group_size)
            if item.id not in without:
                by_task.setdefault(item.task, []).append((-utility, number))
        turns = [(turn, task, number) for task, own in by_task.items() for turn, (_, number) in enumerate(sorted(own))]
        return [self._items[number] for _, _, number in sorted(turns)[:count]]

    def add(self, item: str, passed: int, answers: int) -> None:
        """Add the answers to an item in a step.

        Args:
            item: its id.
            passed: number of right answers.
            answers: number of answers.
        """
        before_passed, before_failed = self._evidence[item]
        self._evidence[item] = [DECAY * before_passed + passed, DECAY * before_failed + answers - passed]

    def get_state(self) -> dict[str, list[float]]:
        """Return id -> evidence [passed, failed], for a checkpoint."""
        return {item: list(evidence) for item, evidence in self._evidence.items()}

    def set_state(self, state: Mapping[str, Sequence[float]]) -> None:
        """Continue with the evidence of a checkpoint."""
        self._evidence = {item: list(evidence) for item, evidence in state.items()}


def _count_known(item: TrainItem) -> list[float]:
    """Return how many of the attempts before the training were right, and how many were not."""
    greedy = [] if item.is_solved is None else [item.is_solved]
    passed = item.passed + sum(greedy)
    return [float(passed), float(item.attempts + len(greedy) - passed)]
