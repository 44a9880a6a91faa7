"""A trainer that stands for one that chooses the items of its steps."""

from __future__ import annotations

from dsrl import TrainJob, hookimpl


class ChoosingTrainer:
    """Says that it can choose, and does nothing."""

    @hookimpl
    def train(self, job: TrainJob) -> None: ...

    @hookimpl
    def can_choose(self) -> bool:
        return True
