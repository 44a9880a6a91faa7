"""The sampler, the trainers and the base model keep the contracts of their kinds."""

from __future__ import annotations

from dsrl.testing import ModelContract, RepeatableSamplerContract, ResumableTrainerContract


class TestSampler(RepeatableSamplerContract):
    plugin = "transformers"


class TestTrainer(ResumableTrainerContract):
    plugin = "grpo"
    options = {"checkpoint_seconds": 0}  # noqa: RUF012 - it is read only


class TestSFT(ResumableTrainerContract):
    plugin = "sft"
    options = {"checkpoint_seconds": 0}  # noqa: RUF012 - it is read only
    job_settings = {"max_completion_tokens": 32}  # noqa: RUF012 - the outputs are longer than the answers of others
    uses_rewards = False


class TestTiny(ModelContract):
    plugin = "tiny"
