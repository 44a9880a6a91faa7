"""One training by GRPO, step by step."""

from __future__ import annotations

import copy
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from dsrl import DsrlError, PluginError, Reward, TrainItem, TrainJob, TrainStep
from dsrl_transformers.checkpoint import Checkpoints, check_output_is_free, make_fingerprint, write_folder
from dsrl_transformers.decode import DecodeSettings
from dsrl_transformers.language_model import LanguageModel, hide_progress_bars, load_model
from dsrl_transformers.lora import add_adapters
from dsrl_transformers.objective import Group, Piece, Terms, backward, cut_groups, make_batches
from dsrl_transformers.trie import Trie, compute_log_probabilities

log = logging.getLogger(__name__)

_MAX_GRADIENT = 1.0
#: The training stops after this many steps in a row without a finite gradient.
_MAX_SKIPPED = 5
#: Maximum number of tokens of a prompt and the answers that share a row with it.
_MAX_PIECE = 512
#: Maximum number of logits of one forward pass: 1 GB in float32.
_MAX_LOGITS = 2**28
#: Maximum number of parts of rewards in the metrics of a step, and maximum length of the name of a part.
_MAX_PARTS = 100
_MAX_PART_NAME = 100


class Training:
    """The training of one job.

    All random numbers depend only on the seed and the number of the step. So a training that was killed and started again
    ends with the same weights as one that was not killed.

    Args:
        job: what to train on, and how.
        reward: returns the reward of an output for an item.
        checkpoint_seconds, cache_tokens, batch_tokens: see :class:`dsrl_transformers.grpo.GRPOTrainer`.
    """

    def __init__(
        self,
        job: TrainJob,
        reward: Callable[[str, TrainItem], Any],
        checkpoint_seconds: float,
        cache_tokens: int,
        batch_tokens: int,
    ) -> None:
        self.job, self.reward = job, reward
        self.cache_tokens, self.batch_tokens = cache_tokens, batch_tokens
        self.checkpoints = Checkpoints(job.work_dir, make_fingerprint(job), checkpoint_seconds)
        self.skipped = self.skipped_in_a_row = 0

    def run(self, on_step: Callable[[TrainStep], None]) -> None:
        """Train to the end and save the model."""
        job = self.job
        if self.checkpoints.is_finished and (job.output_dir / "config.json").exists():
            self.checkpoints.remove()
            return
        check_output_is_free(job.output_dir)
        self._prepare()
        per_epoch = math.ceil(len(self.items) / job.batch_size)
        steps = per_epoch * job.epochs
        last_step = self._resume()
        for step in range(last_step + 1, steps + 1):
            start = time.perf_counter()
            epoch, place = divmod(step - 1, per_epoch)
            order = random.Random(f"{job.seed}/{epoch}").sample(range(len(self.items)), len(self.items))
            batch = [self.items[i] for i in order[place * job.batch_size : (place + 1) * job.batch_size]]
            rate = job.learning_rate * min(1.0, step / (1 + min(10, steps // 10)))
            metrics, rewards = self._step(batch, step, rate)
            metrics["seconds"] = time.perf_counter() - start
            # Report before the checkpoint: after a kill, a step may be reported twice, but no step is lost.
            on_step(TrainStep(step=step, steps=steps, epoch=step / per_epoch, metrics=metrics, rewards=rewards))
            if self.checkpoints.is_due() or step == steps:
                self._save_checkpoint(step)
        # The order matters: a kill at any point leaves either a model that is marked as ours, or a checkpoint.
        self.checkpoints.mark_finished()
        self._save_model()
        self.checkpoints.remove()

    def _prepare(self) -> None:
        job = self.job
        self.lm = load_model(job.model, job.device, job.dtype, purpose="train")
        self.start_dtype = AutoConfig.from_pretrained(job.model).dtype or torch.float32
        self._select_items()
        self.adapted: Any = None
        self.reference: Any = None
        if job.lora_rank > 0:
            torch.manual_seed(job.seed)  # adapters start at random values
            self.adapted = add_adapters(self.lm.model, job.lora_rank)
        elif job.kl_coef > 0:
            self.reference = copy.deepcopy(self.lm.model).requires_grad_(False)
        self.weights = {n: p for n, p in self.lm.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=job.learning_rate, weight_decay=0.0)
        vocabulary = self.lm.model.get_input_embeddings().weight.shape[0]
        batch_tokens = self.batch_tokens or (2048 if self.lm.model.device.type == "cpu" else 16384)
        self.batch_tokens = max(1, min(batch_tokens, _MAX_LOGITS // vocabulary))

    def _select_items(self) -> None:
        """Encode the prompts, and leave out the items whose prompt is too long."""
        job = self.job
        self.prompts = {item.id: self.lm.encode(item.prompt) for item in job.items}
        room = job.max_prompt_tokens
        if self.lm.context is not None:
            room = min(room, self.lm.context - job.max_completion_tokens)
        self.items = [item for item in job.items if len(self.prompts[item.id]) <= room]
        self.left_out = len(job.items) - len(self.items)
        if not self.items:
            raise DsrlError(
                f"None of {len(job.items)} training items has a prompt of at most {room} tokens, so there is nothing to "
                f"train on. Raise --max-prompt-tokens ({job.max_prompt_tokens}), or give a model whose context "
                f"({self.lm.context or 'unknown'}) is longer than --max-prompt-tokens and --max-completion-tokens "
                f"({job.max_completion_tokens}) together."
            )
        if self.left_out:
            log.warning("%d training items are left out: their prompts have more than %d tokens.", self.left_out, room)

    def _step(self, batch: Sequence[TrainItem], step: int, rate: float) -> tuple[dict[str, float], dict[str, float]]:
        """Do one step. Return its metrics, and the mean reward of each item by its id."""
        job = self.job
        groups = self._answer(batch, step)
        pieces = cut_groups(groups, with_kl=job.kl_coef > 0, share=self.lm.has_trees, max_tokens=_MAX_PIECE)
        loss = kl = 0.0
        for part in make_batches(pieces, self.batch_tokens):
            terms = self._backward(part)
            loss, kl = loss + terms.loss, kl + terms.kl
        norm = self._update(rate) if pieces and math.isfinite(loss) else 0.0
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._skip(step)
        else:
            self.skipped_in_a_row = 0
        self.optimizer.zero_grad(set_to_none=True)
        answers = sum(group.size for group in groups)
        tokens = sum(len(c) * n for g in groups for c, n in zip(g.completions, g.counts, strict=True))
        rewards = {item.id: group.mean for item, group in zip(batch, groups, strict=True)}
        metrics = {
            "loss": loss,
            "reward": sum(g.mean * g.size for g in groups) / answers,
            "reward_std": sum(g.spread for g in groups) / len(groups),
            "kl": kl,
            "grad_norm": norm,
            "learning_rate": rate,
            "completion_length": tokens / answers,
            "left_out": float(self.left_out),
            "skipped": float(self.skipped),
            **average_parts(groups),
        }
        return metrics, rewards

    def _answer(self, batch: Sequence[TrainItem], step: int) -> list[Group]:
        """Let the model answer each prompt ``group_size`` times, and compute the rewards of the answers."""
        job = self.job
        settings = DecodeSettings(
            n=job.group_size,
            temperature=job.temperature,
            top_p=job.top_p,
            max_tokens=job.max_completion_tokens,
            seed=(job.seed << 32) + step,
            cache_tokens=self.cache_tokens,
        )
        answers = self.lm.complete([self.prompts[item.id] for item in batch], settings)
        return [
            Group(
                prompt=tuple(self.prompts[item.id]),
                completions=completions.distinct,
                counts=completions.counts,
                rewards=tuple(self._reward(self.lm.decode_text(tokens), item) for tokens in completions.distinct),
            )
            for item, completions in zip(batch, answers, strict=True)
        ]

    def _reward(self, output: str, item: TrainItem) -> float:
        reward = self.reward(output, item)
        if not isinstance(reward, int | float) or not math.isfinite(reward):
            raise PluginError(
                f"The task's reward of {output[:80]!r} with label {item.label!r} is {reward!r}; it must be a finite number."
            )
        return reward if isinstance(reward, Reward) else float(reward)

    def _backward(self, part: Sequence[Piece]) -> Terms:
        job, lm = self.job, self.lm
        pad = min(lm.stop, default=0)

        def policy(tries: Sequence[Trie]) -> Tensor:
            with lm.make_precision_context():
                return compute_log_probabilities(lm.model, tries, job.temperature, pad)

        def start(tries: Sequence[Trie]) -> Tensor:
            # Without its adapters the model is the starting model, so a copy is not needed.
            without_adapters: AbstractContextManager[Any] = (
                self.adapted.disable_adapter() if self.adapted else nullcontext()
            )
            with lm.make_precision_context(), without_adapters:
                return compute_log_probabilities(self.reference or lm.model, tries, job.temperature, pad)

        try:
            return backward(part, policy, start if job.kl_coef > 0 else None, job.kl_coef)
        except torch.OutOfMemoryError as error:
            raise DsrlError(
                f"The device's memory is too small for a training pass of {self.batch_tokens} tokens. Give a smaller number "
                f"with --trainer-option batch_tokens=..., or train adapters with --lora-rank. ({error})"
            ) from error

    def _update(self, rate: float) -> float:
        """Apply the gradient if it is finite. Return its norm."""
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights.values(), _MAX_GRADIENT))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        return norm

    def _skip(self, step: int) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        log.warning("Step %d changes nothing: its loss or gradient is not finite.", step)
        if self.skipped_in_a_row >= _MAX_SKIPPED:
            raise DsrlError(
                f"The training stopped at step {step}: {_MAX_SKIPPED} steps in a row had no finite loss. Try a lower "
                f"--learning-rate than {self.job.learning_rate:g}, or --dtype float32."
            )

    def _resume(self) -> int:
        state = self.checkpoints.load(self.lm.model.device)
        if state is None:
            return 0
        with torch.no_grad():
            for name, value in state["weights"].items():
                self.weights[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.skipped, self.skipped_in_a_row = state["skipped"]
        log.info("The training continues after step %d.", state["step"])
        return int(state["step"])

    def _save_checkpoint(self, step: int) -> None:
        self.checkpoints.save(
            {
                "step": step,
                "weights": {name: weight.detach() for name, weight in self.weights.items()},
                "optimizer": self.optimizer.state_dict(),
                "skipped": [self.skipped, self.skipped_in_a_row],
            }
        )

    def _save_model(self) -> None:
        lm: LanguageModel = self.lm
        model = self.adapted.merge_and_unload() if self.adapted else lm.model
        model = model.to(self.start_dtype)

        def write(folder: Path) -> None:
            with hide_progress_bars():
                model.save_pretrained(folder)
            lm.tokenizer.save_pretrained(folder)

        try:
            # Many models of the hub have settings for sampling although sampling is off. They load with a warning, but
            # transformers refuses to save them.
            model.generation_config.validate(strict=True)
        except ValueError:
            model.generation_config.do_sample = True
        write_folder(self.job.output_dir, write)


def average_parts(groups: Sequence[Group]) -> dict[str, float]:
    """Return ``reward/<part>`` -> the mean of this part over all answers whose reward has it.

    At most 100 parts are returned, and a name has at most 100 characters.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for group in groups:
        for reward, count in zip(group.rewards, group.counts, strict=True):
            for name, value in reward.parts.items() if isinstance(reward, Reward) else ():
                key = f"reward/{name[:_MAX_PART_NAME]}"
                if key in sums or len(sums) < _MAX_PARTS:
                    sums[key] = sums.get(key, 0.0) + float(value) * count
                    counts[key] = counts.get(key, 0) + count
    return {key: total / counts[key] for key, total in sums.items()}
