"""The trainer ``grpo``: group relative policy optimisation on one machine, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dsrl import (
    BoundPlugin,
    Finding,
    SettingsError,
    TrainItem,
    TrainJob,
    TrainStep,
    compute_rewards,
    grade_all,
    hookimpl,
)
from dsrl_transformers.online_choice import UTILITIES
from dsrl_transformers.optimizer import OPTIMIZERS, check_optimizer
from dsrl_transformers.options import TrainerOptions, check_choice, check_seconds, check_whole_number

if TYPE_CHECKING:
    from dsrl.plugins.specs import TaskSpec

_FLAG = "--trainer-option"


class GRPOTrainer:
    """Trains by GRPO (Shao et al. 2024, DeepSeekMath, section 4.1); see :class:`dsrl.plugins.specs.TrainerSpec`.

    In one step, the model answers ``batch_size`` prompts ``group_size`` times each, and AdamW makes one update. The learning
    rate is constant after a short warm-up. The KL term compares with the starting model, by the k3 estimator. Dropout is
    always off, because the old and the new policy must be the same function.

    Args:
        checkpoint_seconds: minimum time between two checkpoints: a kill costs about so much work. The default is 15, and
            with LoRA, whose checkpoints are small, one after every step. Checkpoints never take more than a tenth of the
            time; if a kill can therefore lose more than a minute, a warning says so after the first one. 0 writes one after
            every step, however long that takes.
        cache_tokens: for the rollouts; see :class:`dsrl_transformers.sampler.TransformersSampler`. 0 means a number from the
            memory that the training leaves, on a CPU at most 32768
            (:func:`~dsrl_transformers.memory.choose_rollout_tokens`).
        batch_tokens: number of tokens of one forward and backward pass, with padding. 0 means at most 2048 on a CPU, where
            larger passes are slower, and 16384 on CUDA. It means fewer if their activations would take more than six tenths
            of the memory that weights and optimizer leave, or on a CPU more than 1 GB and a quarter of what these take. When
            the memory is too small for a pass, it is halved.
        gradient_checkpointing: ``on`` computes the layers again in the backward pass: much less memory, a third more time.
            ``auto`` does so if the activations of one answer would not fit otherwise.
        equal_groups: ``skip``: a prompt whose answers all have the same reward costs no training pass. Its only gradient
            would be that of the KL term. ``keep`` computes it, as the paper does.
        optimizer: ``adamw``, or ``adamw8bit``: its moments have 8 bits and can move to the host's memory (CUDA only, package
            bitsandbytes).
        utility: what makes an item worth a place in a step of ``--selection online``. ``learnability``: p(1-p) of its pass
            rate p. ``liveness``: the probability that the answers to it are not all alike, times 1-p, which prefers harder
            items.
        algorithm: ``grpo``, nothing else; the trainer ``verl`` also knows PPO.
    """

    def __init__(
        self,
        checkpoint_seconds: float | None = None,
        cache_tokens: int = 0,
        batch_tokens: int = 0,
        gradient_checkpointing: str = "auto",
        equal_groups: str = "skip",
        optimizer: str = "adamw",
        utility: str = "learnability",
        algorithm: str = "grpo",
    ) -> None:
        if algorithm != "grpo":
            raise SettingsError(
                f"{_FLAG} algorithm={algorithm}: this trainer knows GRPO only; PPO is what the trainer verl does "
                "(pip install dsrl-verl in an environment of its own, then --trainer verl --trainer-option algorithm=ppo)"
            )
        seconds = checkpoint_seconds
        self._options = TrainerOptions(
            checkpoint_seconds=None if seconds is None else check_seconds(f"{_FLAG} checkpoint_seconds", seconds),
            cache_tokens=check_whole_number(f"{_FLAG} cache_tokens", cache_tokens, 0),
            batch_tokens=check_whole_number(f"{_FLAG} batch_tokens", batch_tokens, 0),
            gradient_checkpointing=check_choice(
                f"{_FLAG} gradient_checkpointing", gradient_checkpointing, ("auto", "on", "off")
            ),
            equal_groups=check_choice(f"{_FLAG} equal_groups", equal_groups, ("skip", "keep")),
            optimizer=check_choice(f"{_FLAG} optimizer", optimizer, OPTIMIZERS),
            utility=check_choice(f"{_FLAG} utility", utility, tuple(UTILITIES)),
        )

    @hookimpl
    def train(self, job: TrainJob, task: BoundPlugin[TaskSpec], on_step: Callable[[TrainStep], None]) -> None:
        """Train ``job.model`` on ``job.items``; see :meth:`dsrl.plugins.specs.TrainerSpec.train`.

        A step that was reported but was not in a checkpoint when the process was killed is done and reported again, with
        the same number and the same result.

        The metrics also have ``left_out`` (items whose prompt is too long), ``skipped`` (steps so far that changed nothing
        because their gradient was not finite), ``equal_groups`` (the share of the prompts whose answers all have the same
        reward) and, if the task's rewards have parts, ``reward/<part>`` for each part. In a run over several tasks they have
        ``task_reward/<task>``, the mean reward of each task, and ``dev_accuracy/<task>``; ``dev_accuracy`` is then the mean
        over the tasks. If the items of each step are chosen (``job.choose``), they have ``refilled``: the number of prompts
        whose answers all had the same reward, so that another prompt took their place in the step.

        Raises:
            DataError: there is no readable model to start from.
            DsrlError: no item is left to train on, a reward is not a number, several steps in a row were skipped, the memory
                is too small for a pass, or peft or bitsandbytes is needed and not installed.
            StoreError: a checkpoint or the model cannot be written, or the checkpoint belongs to another job.
        """
        # Not at the top: torch takes seconds to import, and `dsrl plugins list` imports this module.
        from dsrl_transformers.training import Training

        def reward(answers: Sequence[tuple[TrainItem, str]]) -> list[float]:
            return compute_rewards(task, answers)

        def grade(answers: Sequence[tuple[TrainItem, str]]) -> list[bool]:
            return [is_right for _, is_right in grade_all(task, answers)]

        Training(
            job,
            reward=reward,
            grade=grade,
            options=self._options,
        ).run(on_step)

    @hookimpl
    def takes_several_tasks(self) -> bool:
        """Return True: the reward of an item is that of its task."""
        return True

    @hookimpl
    def takes_judged_tasks(self) -> bool:
        """Return True: the rewards of a step are asked for together, in the process of the run."""
        return True

    @hookimpl
    def can_choose(self) -> bool:
        """Return True: see :mod:`dsrl_transformers.online_choice`."""
        return True

    @hookimpl
    def check(self, job: TrainJob) -> None:
        """Check a job before it has its own items; see :meth:`dsrl.plugins.specs.TrainerSpec.check`.

        Raises:
            DataError: there is no readable model to start from, or its weights are broken.
            DsrlError: peft or bitsandbytes is needed and not installed.
            SettingsError: this machine does not have the device, the dtype is not supported, the model's context is too
                short for prompts and answers, or the device's memory is too small for the training.
            StoreError: the model cannot be put into the output folder, or the disk has no space for checkpoints.
        """
        check_training(job, self._options)

    @hookimpl
    def diagnose(self, model: str) -> list[Finding]:
        """Say on which device the trainer works, and which sizes of models fit."""
        from dsrl_transformers.diagnosis import diagnose_training

        return diagnose_training(model)


def check_training(job: TrainJob, options: TrainerOptions) -> None:
    """Check model, device, memory and disk for a job, as the hook ``check`` of a trainer does.

    Raises:
        DataError, DsrlError, SettingsError, StoreError: as in :meth:`GRPOTrainer.check`.
    """
    from dsrl_transformers.checkpoint import check_output_place, check_training_room
    from dsrl_transformers.language_model import hide_progress_bars, resolve_device
    from dsrl_transformers.lora import require_peft
    from dsrl_transformers.memory_check import check_training_memory
    from dsrl_transformers.model_files import check_model
    from dsrl_transformers.prompts import check_prompt_room
    from dsrl_transformers.weights_check import check_weights

    check_output_place(job.output_dir)
    device, forward_dtype = resolve_device(job.device, job.dtype)
    check_optimizer(options.optimizer, device)
    if job.lora_rank > 0:
        require_peft()
    with hide_progress_bars():
        facts = check_model(job.model)
    prompts = [item.prompt for item in job.items]
    check_prompt_room(job.model, facts.context, prompts, job.max_completion_tokens, job.max_prompt_tokens)
    if facts.weight_bytes is not None:
        check_training_room(job, facts.weight_bytes, facts.itemsize)
    check_training_memory(job, facts, device, forward_dtype.itemsize == 2, options)
    check_weights(job.model)
