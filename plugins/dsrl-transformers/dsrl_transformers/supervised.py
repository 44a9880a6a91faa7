"""One training by supervised fine-tuning, step by step. The loop, the checkpoints and the memory are those of GRPO."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dsrl import DsrlError, TrainItem, TrainJob
from dsrl_transformers.checkpoint import make_fingerprint
from dsrl_transformers.memory_estimate import is_out_of_memory
from dsrl_transformers.options import TrainerOptions
from dsrl_transformers.training import Training
from dsrl_transformers.trie import build_trie, compute_log_probabilities

log = logging.getLogger(__name__)

_Pair = tuple[list[int], list[int]]


class SupervisedTraining(Training):
    """The training of one job on the outputs of its items.

    Args:
        job: what to train on, and how.
        grade: returns whether outputs answer items rightly, for the evaluation.
        options: the options of the trainer.
    """

    def __init__(
        self, job: TrainJob, grade: Callable[[Sequence[tuple[TrainItem, str]]], Sequence[bool]], options: TrainerOptions
    ) -> None:
        super().__init__(job, reward=_refuse_reward, grade=grade, options=options)

    def _make_fingerprint(self) -> str:
        return make_fingerprint(self.job, with_outputs=True)

    def _select_items(self) -> None:
        """Encode prompts and outputs, and leave out the items without an output and those that are too long."""
        job, context = self.job, self.lm.context or math.inf
        self.prompts = {item.id: self.lm.encode(item.prompt) for item in job.items}
        self.targets = {item.id: self._encode_output(item.output) for item in job.items if item.output}
        self.items = [
            item
            for item in job.items
            if item.id in self.targets
            and len(self.prompts[item.id]) <= job.max_prompt_tokens
            and len(self.targets[item.id]) <= job.max_completion_tokens
            and len(self.prompts[item.id]) + len(self.targets[item.id]) <= context
        ]
        self.left_out = len(job.items) - len(self.items)
        without = len(job.items) - len(self.targets)
        if not self.items:
            raise DsrlError(
                f"None of {len(job.items)} training items can be trained on: {without} have no output that gives their "
                "label, and the others are too long. Raise --max-prompt-tokens and --max-completion-tokens, or give a model "
                "with a longer context."
            )
        if self.left_out:
            log.warning(
                "%d training items are left out: %d have no output that gives their label, and the others are too long.",
                self.left_out, without,
            )  # fmt: skip

    def _encode_output(self, output: str) -> list[int]:
        """Return the tokens of an output, and of the end of an answer."""
        tokenizer, stop = self.lm.tokenizer, self.lm.stop
        tokens: list[int] = tokenizer(output, add_special_tokens=False)["input_ids"]
        end = tokenizer.eos_token_id
        if end is None:
            end = min(stop, default=None)
        return tokens if end is None else [*tokens, end]

    def _step(self, batch: Sequence[TrainItem], step: int, rate: float) -> tuple[dict[str, float], dict[str, float]]:
        """Do one step. Return its metrics; there are no rewards."""
        pairs = [(self.prompts[item.id], self.targets[item.id]) for item in batch]
        loss = self._descend(pairs)
        norm = self._update(rate) if math.isfinite(loss) else 0.0
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._skip(step)
        else:
            self.skipped_in_a_row = 0
        self.optimizer.zero_grad(set_to_none=True)
        metrics = {
            "loss": loss if math.isfinite(loss) else 0.0,
            "grad_norm": norm if math.isfinite(norm) else 0.0,
            "learning_rate": rate,
            "completion_length": sum(len(target) for _, target in pairs) / len(pairs),
            "left_out": float(self.left_out),
            "skipped": float(self.skipped),
        }
        return metrics, {}

    def _descend(self, pairs: Sequence[_Pair]) -> float:
        """Compute the loss of a step and its gradient, in smaller passes if memory is short."""
        total = sum(len(target) for _, target in pairs)
        while True:
            loss = 0.0
            try:
                for part in self._make_passes(pairs):
                    loss += self._backward_pairs(part, total)
                return loss
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            # Outside of the handler: the error holds on to what the pass had in memory.
            self._need_less_memory(max(map(_count_tokens, pairs)), reason)

    def _make_passes(self, pairs: Sequence[_Pair]) -> Iterator[list[_Pair]]:
        """Put items of like length into passes of at most ``batch_tokens`` tokens, padding included."""
        part: list[_Pair] = []
        for pair in sorted(pairs, key=_count_tokens, reverse=True):
            if part and (len(part) + 1) * _count_tokens(part[0]) > self.batch_tokens:
                yield part
                part = []
            part.append(pair)
        if part:
            yield part

    def _backward_pairs(self, pairs: Sequence[_Pair], total: int) -> float:
        lm = self.lm
        tries = [build_trie(prompt, [target]) for prompt, target in pairs]
        with lm.make_precision_context():
            log_p = compute_log_probabilities(lm.model, tries, 1.0, min(lm.stop, default=0), self.is_head_linear)
        loss = -log_p.sum() / total
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())


def _count_tokens(pair: _Pair) -> int:
    return len(pair[0]) + len(pair[1])


def _refuse_reward(answers: Sequence[tuple[TrainItem, str]]) -> Sequence[Any]:
    raise AssertionError("supervised fine-tuning asks for no reward")
