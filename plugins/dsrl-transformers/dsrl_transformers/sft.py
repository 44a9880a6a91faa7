"""The trainer ``sft``: supervised fine-tuning on the outputs of the items, on one machine, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from dsrl import BoundPlugin, Finding, TrainItem, TrainJob, TrainStep, grade_all, hookimpl
from dsrl_transformers.grpo import check_training
from dsrl_transformers.optimizer import OPTIMIZERS
from dsrl_transformers.options import (
    TrainerOptions,
    check_choice,
    check_seconds,
    check_share,
    check_whole_number,
)

if TYPE_CHECKING:
    from dsrl.plugins.specs import TaskSpec

_FLAG = "--trainer-option"


class SFTTrainer:
    """Trains a model to write the outputs of the items, the paper's baseline; see :class:`dsrl.plugins.specs.TrainerSpec`.

    In one step, AdamW makes one update for ``batch_size`` items: the mean cross-entropy of the tokens of their outputs and
    of the token that ends an answer. The learning rate is constant after a short warm-up. No answer is drawn, so the group
    size, the temperatures and the KL term of a job have no effect. Items without an output are left out and counted.

    Args:
        checkpoint_seconds, batch_tokens, gradient_checkpointing, optimizer: as for
            :class:`dsrl_transformers.grpo.GRPOTrainer`.
        weight_decay: of AdamW, 0 to 1; the default is the paper's.
    """

    #: The paper's values (appendix A.3), where the user gives no others.
    dsrl_settings: ClassVar[Mapping[str, float]] = {"learning_rate": 2e-5, "batch_size": 64, "epochs": 3}

    def __init__(
        self,
        checkpoint_seconds: float | None = None,
        batch_tokens: int = 0,
        gradient_checkpointing: str = "auto",
        optimizer: str = "adamw",
        weight_decay: float = 0.01,
    ) -> None:
        seconds = checkpoint_seconds
        self._options = TrainerOptions(
            checkpoint_seconds=None if seconds is None else check_seconds(f"{_FLAG} checkpoint_seconds", seconds),
            cache_tokens=0,
            batch_tokens=check_whole_number(f"{_FLAG} batch_tokens", batch_tokens, 0),
            gradient_checkpointing=check_choice(
                f"{_FLAG} gradient_checkpointing", gradient_checkpointing, ("auto", "on", "off")
            ),
            equal_groups="skip",
            optimizer=check_choice(f"{_FLAG} optimizer", optimizer, OPTIMIZERS),
            weight_decay=check_share(f"{_FLAG} weight_decay", weight_decay),
        )

    @hookimpl
    def train(self, job: TrainJob, task: BoundPlugin[TaskSpec], on_step: Callable[[TrainStep], None]) -> None:
        """Train ``job.model`` on the outputs of ``job.items``; see :meth:`dsrl.plugins.specs.TrainerSpec.train`.

        The metrics have ``loss``, ``grad_norm``, ``learning_rate``, ``completion_length``, ``seconds``, ``left_out`` (items
        without an output, or that are too long) and ``skipped``, and those of the evaluation; there are no rewards.

        Raises:
            DataError, DsrlError, StoreError: as in :meth:`dsrl_transformers.grpo.GRPOTrainer.train`.
        """
        # Not at the top: torch takes seconds to import, and `dsrl plugins list` imports this module.
        from dsrl_transformers.supervised import SupervisedTraining

        def grade(answers: Sequence[tuple[TrainItem, str]]) -> list[bool]:
            return [is_right for _, is_right in grade_all(task, answers)]

        SupervisedTraining(replace(job, kl_coef=0.0), grade=grade, options=self._options).run(on_step)

    @hookimpl
    def takes_several_tasks(self) -> bool:
        """Return True: the outputs of an item do not depend on its task."""
        return True

    @hookimpl
    def takes_judged_tasks(self) -> bool:
        """Return True: no reward is asked for."""
        return True

    @hookimpl
    def check(self, job: TrainJob) -> None:
        """Check a job before it has its own items; see :meth:`dsrl.plugins.specs.TrainerSpec.check`.

        Raises:
            DataError, DsrlError, SettingsError, StoreError: as in :meth:`dsrl_transformers.grpo.GRPOTrainer.check`.
        """
        check_training(replace(job, kl_coef=0.0), self._options)

    @hookimpl
    def diagnose(self, model: str) -> list[Finding]:
        """Say on which device the trainer works, and which sizes of models fit."""
        from dsrl_transformers.diagnosis import diagnose_training

        return diagnose_training(model, has_kl=False)
