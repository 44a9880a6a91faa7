from dataclasses import replace
from typing import Any

from dsrl import TrainJob
from dsrl.testing import ResumableTrainerContract


class TestRejectionSampling(ResumableTrainerContract):
    plugin = "rejection_sampling"
    model = "tiny"  # the base model of dsrl-transformers

    def test_it_learns_what_is_rewarded(self, subject: Any, job: TrainJob, task: Any) -> None:
        steps = self.train(subject, replace(job, epochs=12, group_size=8), task)
        rewards = [step.metrics["reward"] for step in steps]
        assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 + 0.1
