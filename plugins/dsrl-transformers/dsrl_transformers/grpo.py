"""The trainer ``grpo``: group relative policy optimisation on one machine, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dsrl import hookimpl
from dsrl.errors import SettingsError
from dsrl_transformers.options import seconds, whole_number

if TYPE_CHECKING:
    from dsrl.plugins.binding import Plugin
    from dsrl.plugins.specs import TaskSpec
    from dsrl.types import TrainJob, TrainStep


class GRPOTrainer:
    """Trains by GRPO (Shao et al. 2024, DeepSeekMath, section 4.1); see :class:`dsrl.plugins.specs.TrainerSpec`.

    One step: ``batch_size`` prompts, ``group_size`` answers each, one update by AdamW at a constant learning rate after
    a short warm-up. The KL term is against the starting model, by the k3 estimator. Dropout is off throughout: the old
    and the new policy are to be the same function.

    Args:
        checkpoint_seconds: at least so long between two checkpoints, and never more than a twentieth of the time is
            spent on them: what a kill can cost. 0 is after every step.
        cache_tokens: of the rollouts; see :class:`dsrl_transformers.sampler.TransformersSampler`.
        batch_tokens: tokens of one forward and backward pass, padding included; less for a large vocabulary. 0 is 2048
            on a CPU, where larger ones are slower, and 16384 on CUDA.
    """

    def __init__(self, checkpoint_seconds: float = 15.0, cache_tokens: int = 32768, batch_tokens: int = 0) -> None:
        self._checkpoint_seconds = seconds("--trainer-option checkpoint_seconds", checkpoint_seconds)
        self._cache_tokens = whole_number("--trainer-option cache_tokens", cache_tokens, 1)
        self._batch_tokens = whole_number("--trainer-option batch_tokens", batch_tokens, 0)

    @hookimpl
    def train(self, job: TrainJob, task: Plugin[TaskSpec], on_step: Callable[[TrainStep], None]) -> None:
        """Train ``job.model`` on ``job.items``; see :meth:`dsrl.plugins.specs.TrainerSpec.train`.

        A step that was told but not yet in a checkpoint when the process was killed is done and told again, with the
        same number and the same result.

        Metrics beside the field's own: ``left_out`` (items with too long a prompt) and ``skipped`` (steps so far whose
        gradient was not finite and which changed nothing).

        Raises:
            DataError: there is no readable model to start from.
            DsrlError: no item is left to train on, a reward is no number, several steps in a row were skipped, or peft
                is wanted and missing.
            StoreError: a checkpoint or the model cannot be written, or belongs to another job.
        """
        # Not at the top: torch takes seconds to import, and looking at the list of plugins must not.
        from dsrl_transformers.training import Training

        Training(
            job,
            reward=lambda output, label: task.hook.reward(output=output, label=label),
            checkpoint_seconds=self._checkpoint_seconds,
            cache_tokens=self._cache_tokens,
            batch_tokens=self._batch_tokens,
        ).run(on_step)

    @hookimpl
    def check(self, job: TrainJob) -> None:
        """Find what is wrong with a job before it has items; see :meth:`dsrl.plugins.specs.TrainerSpec.check`.

        Raises:
            DataError: there is no readable model to start from.
            DsrlError: peft is wanted and missing, or the model's context is too short for the answers.
            SettingsError: no such device or type here.
            StoreError: the folder for the model cannot take it, or there is no room for checkpoints.
        """
        from dsrl_transformers.checkpoint import check_target, check_training_room
        from dsrl_transformers.language_model import check_device, quiet
        from dsrl_transformers.lora import require_peft
        from dsrl_transformers.model_files import check_model

        check_target(job.output_dir)
        check_device(job.device, job.dtype)
        if job.lora_rank > 0:
            require_peft()
        with quiet():
            facts = check_model(job.model)
        if facts.context is not None and facts.context <= job.max_completion_tokens:
            raise SettingsError(
                f"{job.model} sees {facts.context} tokens, and --max-completion-tokens {job.max_completion_tokens} leaves "
                "no room for a prompt in training; give a smaller number, or a model with a longer context"
            )
        if facts.weights is not None:
            check_training_room(job, facts.weights, facts.itemsize)
