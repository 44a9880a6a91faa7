"""Evaluation on the development items during a training. The best weights are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dsrl import TrainItem, TrainJob
from dsrl_transformers.checkpoint import Checkpoints
from dsrl_transformers.decode import DecodeSettings
from dsrl_transformers.language_model import LanguageModel


class DevEvaluation:
    """Evaluates a model every ``job.eval_every`` steps and after the last one, and keeps the best weights on the disk.

    Args:
        job: the development items, and how often.
        lm: the model in training.
        weights: its trained weights by name.
        grade: returns whether outputs answer items rightly.
        checkpoints: keep the best weights. What they hold from before a kill counts.
        dtype: type in which the weights are kept.
        cache_tokens: see :class:`dsrl_transformers.grpo.GRPOTrainer`.
    """

    def __init__(
        self,
        job: TrainJob,
        lm: LanguageModel,
        weights: Mapping[str, Tensor],
        grade: Callable[[Sequence[tuple[TrainItem, str]]], Sequence[bool]],
        checkpoints: Checkpoints,
        dtype: torch.dtype,
        cache_tokens: int,
    ) -> None:
        self.job, self.lm, self.weights, self.grade = job, lm, weights, grade
        self.checkpoints, self.dtype, self.cache_tokens = checkpoints, dtype, cache_tokens
        self.is_active = job.eval_every > 0 and bool(job.dev_items)
        self.best_step, self.best_accuracy = 0, -1.0
        #: Task -> accuracy of the last evaluation; empty in a run of one task.
        self.task_accuracies: dict[str, float] = {}
        best = checkpoints.load_best(torch.device("cpu")) if self.is_active else None
        if best is not None:
            self.best_step, self.best_accuracy = int(best["step"]), float(best["accuracy"])

    def is_due(self, step: int, steps: int) -> bool:
        """Return whether the model must be evaluated after a step."""
        return self.is_active and (step % self.job.eval_every == 0 or step == steps)

    def evaluate(self, step: int) -> float:
        """Return the accuracy of the greedy answers, 0 to 1. Keep the weights if none were better.

        In a run over several tasks, it is the mean over the tasks.
        """
        accuracy = self._measure(step)
        # The best weights may be of a later step that a kill has undone. Then this training comes to that step again.
        if accuracy >= self.best_accuracy:
            self.best_step, self.best_accuracy = step, accuracy
            weights = {name: weight.detach().to(self.dtype) for name, weight in self.weights.items()}
            self.checkpoints.save_best({"step": step, "accuracy": accuracy, "weights": weights})
        return accuracy

    def _measure(self, step: int) -> float:
        settings = DecodeSettings(
            n=1,
            temperature=0.0,
            top_p=1.0,
            max_tokens=self.job.max_completion_tokens,
            seed=(self.job.seed << 32) + step,
            cache_tokens=self.cache_tokens,
        )
        prompts, settings = self.lm.fit_to_context(
            [self.lm.encode(item.prompt) for item in self.job.dev_items], settings
        )
        answers = self.lm.complete(prompts, settings)
        texts = [self.lm.decode_text(completions.distinct[completions.indices[0]]) for completions in answers]
        grades = self.grade(list(zip(self.job.dev_items, texts, strict=True)))
        by_task: dict[str, list[bool]] = {}
        for item, is_right in zip(self.job.dev_items, grades, strict=True):
            by_task.setdefault(item.task, []).append(is_right)
        accuracies = {task: sum(right) / len(right) for task, right in by_task.items()}
        self.task_accuracies = {task: accuracy for task, accuracy in accuracies.items() if task}
        return sum(accuracies.values()) / len(accuracies)

    def restore_best(self) -> None:
        """Put the best weights into the model."""
        best = self.checkpoints.load_best(self.lm.model.device) if self.is_active else None
        if best is not None:
            with torch.no_grad():
                for name, value in best["weights"].items():
                    self.weights[name].copy_(value)
