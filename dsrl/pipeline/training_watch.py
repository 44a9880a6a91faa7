"""An alarm for a training whose reward rises while the accuracy on the development items falls.

The formula: take the last three evaluations, with the accuracies ``a1``, ``a2``, ``a3`` on ``n`` development items. The fall
is ``a1 - a3``, and its standard error is ``sqrt((a1 (1 - a1) + a3 (1 - a3)) / n)``. The rise is the mean reward of the
samples in the steps between the second and the third evaluation, minus that between the first and the second; its standard
error is ``sqrt(v1 / m1 + v2 / m2)`` with the variances and numbers of these rewards. The alarm is given if the fall and the
rise are both larger than their standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean, variance

from dsrl.pipeline.runtime import OpenRun
from dsrl.storage.metrics import Metrics
from dsrl.types import BEST_STEP, DEV_ACCURACY, EQUAL_GROUPS, TrainStep

#: A training stands still if this share of the groups has equal rewards in its last steps: so many steps at least, and this
#: share of all. It is no fault if the mean of the rewards is at least this share of the largest: then most is solved.
_STANDSTILL_SHARE, _STANDSTILL_STEPS, _STANDSTILL_STEPS_SHARE, _SOLVED_SHARE = 0.9, 5, 0.25, 0.9


@dataclass(frozen=True, slots=True)
class Drift:
    """A rise of the reward and a fall of the accuracy that are both larger than their standard errors."""

    rise: float
    rise_error: float
    fall: float
    fall_error: float


def find_drift(
    accuracies: Sequence[float], items: int, before: Sequence[float], after: Sequence[float]
) -> Drift | None:
    """Return the drift of a training over its last three evaluations; None if there is none.

    Args:
        accuracies: the accuracies of all evaluations so far, oldest first.
        items: number of development items.
        before: rewards of the samples between the first and the second of the last three evaluations.
        after: rewards of the samples between the second and the third.
    """
    if len(accuracies) < 3 or not items or min(len(before), len(after)) < 2:
        return None
    first, last = accuracies[-3], accuracies[-1]
    drift = Drift(
        rise=fmean(after) - fmean(before),
        rise_error=math.sqrt(variance(before) / len(before) + variance(after) / len(after)),
        fall=first - last,
        fall_error=math.sqrt((first * (1 - first) + last * (1 - last)) / items),
    )
    return drift if drift.fall > drift.fall_error and drift.rise > drift.rise_error else None


class TrainingWatch:
    """Watches the steps of one training; it continues from the stored steps of an earlier process.

    Args:
        run: the open run; it gets the warning.
        iteration: from 1.
        items: number of development items.
        metrics: the stored steps.

    Attributes:
        accuracies: step -> accuracy on the development items.
        best_step: the step whose model the trainer has kept, as it says; None if it has not said.
    """

    def __init__(self, run: OpenRun, iteration: int, items: int, metrics: Metrics) -> None:
        self._run, self._iteration, self._items, self._metrics = run, iteration, items, metrics
        stored = metrics.read_values(iteration, DEV_ACCURACY) if items else {}
        self.accuracies = {step: accuracy for step, accuracy in stored.items() if 0 <= accuracy <= 1}
        self.best_step: int | None = None

    def add(self, step: TrainStep) -> None:
        """Look at a step whose rewards are stored; warn the user once in a training."""
        best = step.metrics.get(BEST_STEP)
        if best is not None and math.isfinite(best):
            self.best_step = int(best)
        accuracy = step.metrics.get(DEV_ACCURACY)
        if not self._items or accuracy is None or not 0 <= accuracy <= 1:
            return
        self.accuracies[step.step] = accuracy
        steps = sorted(number for number in self.accuracies if number <= step.step)  # some may be trained again
        if len(steps) < 3:
            return
        first, second, third = steps[-3:]
        drift = find_drift(
            [self.accuracies[number] for number in steps],
            self._items,
            self._run.store.get_step_rewards(self._iteration, first, second),
            self._run.store.get_step_rewards(self._iteration, second, third),
        )
        if drift:
            self._run.add_warning(
                f"from step {first} to step {third} of the training, the accuracy on the {self._items} development items "
                f"fell from {self.accuracies[first]:.1%} to {self.accuracies[third]:.1%} (standard error "
                f"{drift.fall_error:.1%}), while the reward rose by {drift.rise:.3f} (standard error "
                f"{drift.rise_error:.3f}): the model learns what the reward pays for, or its training items by heart, and "
                "not the task. Try a lower --learning-rate, fewer --epochs or a larger --kl-coef",
                f"trained-{self._iteration}:drift",
            )

    def review_groups(self) -> None:
        """Warn the user after a training in which all answers to each prompt had the same reward, or soon had it."""
        by_step = self._metrics.read_values(self._iteration, EQUAL_GROUPS)
        steps = sorted(by_step)
        shares = [by_step[step] for step in steps]
        still = len(list(takewhile(lambda share: share >= _STANDSTILL_SHARE, reversed(shares))))
        if shares and all(share >= 1 for share in shares):
            self._run.add_warning(
                f"in all {len(shares)} steps of the training, all answers to a prompt had the same reward, so the model has "
                "learned nothing and answers like the model that it started from. Give a higher --train-temperature, a "
                "larger --group-size, or samples that are neither too easy nor too hard",
                f"trained-{self._iteration}:equal_groups",
            )
        elif still >= max(_STANDSTILL_STEPS, _STANDSTILL_STEPS_SHARE * len(shares)):
            rewards = self._run.store.get_step_rewards(self._iteration, steps[-still] - 1, steps[-1])
            if rewards and fmean(rewards) < _SOLVED_SHARE * max(rewards):
                self._run.add_warning(
                    f"in the last {still} of {len(shares)} steps of the training, almost all answers to a prompt had the "
                    f"same reward, with a mean of {fmean(rewards):.2f} and a maximum of {max(rewards):.2f}: the model gives "
                    "the same answers every time, also wrong ones, and these steps have taught it nothing. Give a lower "
                    "--learning-rate, a larger --kl-coef, a higher --train-temperature or another --selection",
                    f"trained-{self._iteration}:standstill",
                )

    def describe_best(self) -> str:
        """Return which model was kept, as a clause for the user; empty if the trainer has not said it."""
        if self.best_step is None:
            return ""
        accuracy = self.accuracies.get(self.best_step)
        return f", the model of step {self.best_step}" + (
            f" (accuracy {accuracy:.1%} on the development items)" if accuracy is not None else ""
        )
