"""The sampler, the trainer and the base model keep the contracts of their kinds."""

from __future__ import annotations

from dsrl.testing import ModelContract, RepeatableSamplerContract, ResumableTrainerContract


class TestSampler(RepeatableSamplerContract):
    plugin = "transformers"


class TestTrainer(ResumableTrainerContract):
    plugin = "grpo"
    options = {"checkpoint_seconds": 0}  # noqa: RUF012 - it is read only


class TestTiny(ModelContract):
    plugin = "tiny"
