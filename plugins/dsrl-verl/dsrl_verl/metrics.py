"""verl's metrics of a step under the names that dsrl uses, and all others under their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: dsrl's name -> verl's.
_NAMES = {
    "loss": "actor/loss",
    "kl": "actor/kl_loss",
    "grad_norm": "actor/grad_norm",
    "learning_rate": "actor/lr",
    "completion_length": "response_length/mean",
    "seconds": "timing_s/step",
}
#: What stands in for a metric that this kind of training does not have.
_SECOND_CHOICES = {"loss": "actor/pg_loss", "kl": "critic/kl"}
#: verl's word for groups that it has left out.
_LEFT_OUT = "evicted_samples"
#: Maximum number of metrics of a step, and maximum length of a name.
_MAX_METRICS, _MAX_NAME = 300, 100


def read_step(record: Mapping[str, Any]) -> int | None:
    """Return the step of a line of verl's file of metrics; None if it is none of a training step."""
    step, data = record.get("step"), record.get("data")
    if not isinstance(step, int) or not isinstance(data, Mapping) or "training/global_step" not in data:
        return None
    return step


def convert_metrics(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of verl's metrics: first dsrl's names, then verl's own."""
    numbers = {
        str(name)[:_MAX_NAME]: float(value)
        for name, value in data.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    metrics = {}
    for name, theirs in _NAMES.items():
        second = _SECOND_CHOICES.get(name, "")
        metrics[name] = numbers.get(theirs, numbers.get(second, 0.0))
    rest = [name for name in numbers if name not in _NAMES.values()]
    return metrics | {name: numbers[name] for name in rest[: _MAX_METRICS - len(metrics)]}


def count_left_out(data: Mapping[str, Any]) -> int:
    """Return the number of groups that verl has left out of a step."""
    values = [value for name, value in data.items() if name.endswith(_LEFT_OUT) and name.startswith("training/")]
    return sum(int(value) for value in values if isinstance(value, int | float) and math.isfinite(value))
