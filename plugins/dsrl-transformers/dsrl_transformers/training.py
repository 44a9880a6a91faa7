"""One training by GRPO, step by step."""

from __future__ import annotations

import copy
import gc
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from dsrl import DsrlError, PluginError, Reward, TrainItem, TrainJob, TrainStep
from dsrl_transformers.checkpoint import Checkpoints, check_output_is_free, make_fingerprint, write_folder
from dsrl_transformers.decode import DecodeSettings
from dsrl_transformers.dev_evaluation import DevEvaluation
from dsrl_transformers.language_model import LanguageModel, hide_progress_bars, load_model
from dsrl_transformers.log_probability import has_linear_head
from dsrl_transformers.lora import add_adapters, merge_adapters
from dsrl_transformers.memory import choose_rollout_tokens
from dsrl_transformers.memory_estimate import PROCESS_BYTES, ModelShape, is_out_of_memory, read_capacity, read_shape
from dsrl_transformers.memory_saving import recompute_layers, store_in_bfloat16
from dsrl_transformers.objective import Group, Piece, Terms, backward, cut_groups, make_batches
from dsrl_transformers.online_choice import OnlineChoice
from dsrl_transformers.optimizer import make_optimizer
from dsrl_transformers.options import TrainerOptions
from dsrl_transformers.trie import Trie, compute_log_probabilities

log = logging.getLogger(__name__)

_MAX_GRADIENT = 1.0
#: The training stops after this many steps in a row without a finite gradient.
_MAX_SKIPPED = 5
#: Maximum number of logits of one forward pass of a model whose logits must be computed all at once: 1 GB in float32.
_MAX_LOGITS = 2**28
#: Tokens of a training pass on a CPU, where larger passes are slower, and on other devices.
_CPU_TOKENS, _DEVICE_TOKENS = 2048, 16384
#: Memory for the activations of a pass on a CPU: so many bytes, or this part of what the weights and the optimizer take if
#: that is more. One answer may need more.
_CPU_PASS_BYTES, _CPU_PASS_SHARE = 2**30, 0.25
#: Part of the memory without the weights that the activations of a pass may take.
_MAX_PASS_SHARE = 0.6
#: The user is warned after this many steps in a row without a difference between the rewards of any prompt's answers.
_MAX_EQUAL_STEPS = 10
#: Maximum number of parts of rewards in the metrics of a step, and maximum length of the name of a part.
_MAX_PARTS = 100
_MAX_PART_NAME = 100


class Training:
    """The training of one job.

    All random numbers depend only on the seed and the number of the step. So a training that was killed and started again
    ends with the same weights as one that was not killed.

    Args:
        job: what to train on, and how.
        reward: returns the rewards of outputs for items, those of one step at a time.
        grade: returns whether outputs answer items rightly, for the evaluation.
        options: the options of the trainer.
    """

    def __init__(
        self,
        job: TrainJob,
        reward: Callable[[Sequence[tuple[TrainItem, str]]], Sequence[Any]],
        grade: Callable[[Sequence[tuple[TrainItem, str]]], Sequence[bool]],
        options: TrainerOptions,
    ) -> None:
        self.job, self.reward, self.grade, self.options = job, reward, grade, options
        # The checkpoint of adapters is small: one after every step, if that does not take too much of the time.
        default_seconds = 0.0 if job.lora_rank > 0 else 15.0
        self.checkpoints = Checkpoints(
            job.work_dir, self._make_fingerprint(), options.checkpoint_seconds, default_seconds
        )
        self.skipped = self.skipped_in_a_row = 0
        self.equal_steps_in_a_row, self.is_warned_of_equal_groups = 0, False

    def run(self, on_step: Callable[[TrainStep], None]) -> None:
        """Train to the end and save the model."""
        job = self.job
        if self.checkpoints.is_finished and (job.output_dir / "config.json").exists():
            self.checkpoints.remove()
            return
        check_output_is_free(job.output_dir)
        self._prepare()
        self.epoch_size = min(job.choose or len(self.items), len(self.items))
        per_epoch = math.ceil(self.epoch_size / job.batch_size)
        steps = per_epoch * job.epochs
        last_step = self._resume()
        self.checkpoints.announce()
        for step in range(last_step + 1, steps + 1):
            start = time.perf_counter()
            batch = self._make_batch(step, per_epoch)
            rate = job.learning_rate * min(1.0, step / (1 + min(10, steps // 10)))
            metrics, rewards = self._step(batch, step, rate)
            if self.evaluation.is_due(step, steps):
                metrics["dev_accuracy"] = self.evaluation.evaluate(step)
                metrics |= {f"dev_accuracy/{task}": share for task, share in self.evaluation.task_accuracies.items()}
                if step == steps:
                    metrics["best_step"] = float(self.evaluation.best_step)
            metrics["seconds"] = time.perf_counter() - start
            # Report before the checkpoint: after a kill, a step may be reported twice, but no step is lost.
            on_step(TrainStep(step=step, steps=steps, epoch=step / per_epoch, metrics=metrics, rewards=rewards))
            if self.checkpoints.is_due() or step == steps:
                self._save_checkpoint(step, metrics["seconds"])
        # The order matters: a kill at any point leaves either a model that is marked as ours, or a checkpoint.
        self.checkpoints.mark_finished()
        self.evaluation.restore_best()
        self._save_model()
        self.checkpoints.remove()

    def _make_batch(self, step: int, per_epoch: int) -> list[TrainItem]:
        job = self.job
        epoch, place = divmod(step - 1, per_epoch)
        if self.choice is not None:
            # As in a training on so many items, the last step of an epoch may be smaller.
            return self.choice.choose(min(job.batch_size, self.epoch_size - place * job.batch_size), step)
        order = random.Random(f"{job.seed}/{epoch}").sample(range(len(self.items)), len(self.items))
        return [self.items[i] for i in order[place * job.batch_size : (place + 1) * job.batch_size]]

    def _make_fingerprint(self) -> str:
        return make_fingerprint(self.job)

    def _prepare(self) -> None:
        job = self.job
        self.lm = load_model(job.model, job.device, job.dtype, purpose="adapt" if job.lora_rank > 0 else "train")
        model = self.lm.model
        config = AutoConfig.from_pretrained(job.model)
        self.start_dtype = config.dtype or torch.float32
        self.is_head_linear = has_linear_head(model)
        self._select_items()
        self.choice = OnlineChoice(self.items, job.group_size, job.seed, self.options.utility) if job.choose else None
        self.adapted: Any = None
        self.reference: Any = None
        if job.lora_rank > 0:
            torch.manual_seed(job.seed)  # adapters start at random values
            self.adapted = add_adapters(model, job.lora_rank)
        elif job.kl_coef > 0:
            self.reference = copy.deepcopy(model).requires_grad_(False)
            store_in_bfloat16(self.reference)
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(
            self.options.optimizer, self.weights.values(), model.device, self.options.weight_decay
        )
        self._plan_passes(read_shape(config.get_text_config(decoder=True)))
        is_kept_small = job.lora_rank == 0
        self.evaluation = DevEvaluation(
            job,
            self.lm,
            self.weights,
            self.grade,
            self.checkpoints,
            dtype=self.start_dtype if is_kept_small else torch.float32,
            cache_tokens=self.options.cache_tokens,
        )

    def _plan_passes(self, shape: ModelShape) -> None:
        """Choose the size of a training pass, and whether layers are computed again backward.

        The choice depends on the model, the items and the size of the machine's memory, not on what is free of it now. So a
        training that continues on the same machine makes the same passes.
        """
        job, model, options = self.job, self.lm.model, self.options
        is_cpu = model.device.type == "cpu"
        # Attention costs about 2 * hidden operations a pair of tokens, the weights of a layer 12 * hidden**2 a token; and
        # the operations of attention are about twice as slow.
        self.pair_cost = 1 / (3 * (shape.hidden or 1024))
        trained = sum(weight.numel() for weight in self.weights.values())
        models = (model, self.reference) if self.reference is not None else (model,)
        fixed = PROCESS_BYTES + trained * (6 if options.optimizer == "adamw8bit" else 12)
        fixed += sum(weight.numel() * weight.itemsize for some in models for weight in some.parameters())
        own_bytes = sum(weight.numel() * weight.itemsize for weight in model.parameters())
        self.lm.default_cache_tokens = choose_rollout_tokens(model, fixed - own_bytes)
        capacity = read_capacity(model.device)
        spare = None if capacity is None else max(0.0, _MAX_PASS_SHARE * (capacity - fixed))
        longest = max(len(self.prompts[item.id]) for item in self.items) + job.max_completion_tokens
        is_narrow = not is_cpu and self.lm.autocast_dtype == torch.bfloat16
        is_too_large = spare is not None and shape.get_pass_bytes(longest, False, is_narrow) > spare
        mode = options.gradient_checkpointing
        self.is_recomputed = (mode == "on" or (mode == "auto" and is_too_large)) and self._recompute_layers()
        tokens = _CPU_TOKENS if is_cpu else _DEVICE_TOKENS
        token_bytes = shape.get_pass_bytes(1, self.is_recomputed, is_narrow)
        budgets = [] if spare is None else [spare]
        if is_cpu:
            budgets.append(max(_CPU_PASS_BYTES, _CPU_PASS_SHARE * fixed))
        if budgets and token_bytes:
            tokens = min(tokens, int(min(budgets) / token_bytes))
        self.batch_tokens = options.batch_tokens or max(1, tokens)
        if not self.is_head_linear:
            vocabulary = model.get_input_embeddings().weight.shape[0]
            self.batch_tokens = max(1, min(self.batch_tokens, _MAX_LOGITS // vocabulary))

    def _recompute_layers(self) -> bool:
        is_possible = recompute_layers(self.lm.model)
        if is_possible:
            log.info("Layers are computed again in the backward pass, which takes less memory and a third more time.")
        else:
            log.warning("Gradient checkpointing is not possible: the library has no layers for it in this model.")
        return is_possible

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
        groups = self._answer(batch, step)
        rewards = {item.id: group.mean for item, group in zip(batch, groups, strict=True)}
        refilled = 0
        if self.choice is not None:
            self._watch_choice(batch, groups)
            batch, groups, refilled = self._refill(batch, groups, step)
            rewards |= {item.id: group.mean for item, group in zip(batch, groups, strict=True)}
        terms = self._compute_gradient(groups)
        loss, kl = (terms.loss, terms.kl) if terms is not None else (0.0, 0.0)
        norm = self._update(rate) if terms is not None and math.isfinite(loss) else 0.0
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._skip(step)
        elif terms is not None:
            self.skipped_in_a_row = 0
        self.optimizer.zero_grad(set_to_none=True)
        answers = sum(group.size for group in groups)
        tokens = sum(len(c) * n for g in groups for c, n in zip(g.completions, g.counts, strict=True))
        equal_groups = sum(not any(group.advantages) for group in groups) / len(groups)
        self._watch_equal_groups(equal_groups, step)
        metrics = {
            "loss": loss,
            "reward": sum(g.mean * g.size for g in groups) / answers,
            "reward_std": sum(g.spread for g in groups) / len(groups),
            "equal_groups": equal_groups,
            "kl": kl,
            "grad_norm": norm,
            "learning_rate": rate,
            "completion_length": tokens / answers,
            "left_out": float(self.left_out),
            "skipped": float(self.skipped),
            **({"refilled": float(refilled)} if self.choice is not None else {}),
            **average_parts(groups),
            **average_tasks(batch, rewards),
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
            cache_tokens=self.options.cache_tokens,
        )
        answers = self.lm.complete([self.prompts[item.id] for item in batch], settings)
        texts = [
            (item, self.lm.decode_text(tokens))
            for item, completions in zip(batch, answers, strict=True)
            for tokens in completions.distinct
        ]
        rewards = iter([check_reward(*pair) for pair in zip(texts, self.reward(texts), strict=True)])
        return [
            Group(
                prompt=tuple(self.prompts[item.id]),
                completions=completions.distinct,
                counts=completions.counts,
                rewards=tuple(islice(rewards, len(completions.distinct))),
            )
            for item, completions in zip(batch, answers, strict=True)
        ]

    def _refill(
        self, batch: Sequence[TrainItem], groups: Sequence[Group], step: int
    ) -> tuple[list[TrainItem], list[Group], int]:
        """Replace the prompts whose answers all have the same reward by others, once; return how many came."""
        assert self.choice is not None
        live = [(item, group) for item, group in zip(batch, groups, strict=True) if any(group.advantages)]
        missing = len(batch) - len(live)
        others = self.choice.choose(missing, step, {item.id for item in batch}) if missing else []
        if not others:
            return list(batch), list(groups), 0
        added = self._answer(others, step)
        self._watch_choice(others, added)
        return [item for item, _ in live] + others, [group for _, group in live] + added, len(others)

    def _watch_choice(self, batch: Sequence[TrainItem], groups: Sequence[Group]) -> None:
        """Tell the choice how many of the answers to each item are right."""
        assert self.choice is not None
        answers = [
            (item, self.lm.decode_text(tokens))
            for item, group in zip(batch, groups, strict=True)
            for tokens in group.completions
        ]
        verdicts = iter(self.grade(answers))
        for item, group in zip(batch, groups, strict=True):
            passed = sum(count for count in group.counts if next(verdicts))
            self.choice.add(item.id, passed, group.size)

    def _compute_gradient(self, groups: Sequence[Group]) -> Terms | None:
        """Compute the loss of a step and its gradient, in smaller passes if memory is short. None: there is none."""
        while True:
            pieces = cut_groups(
                groups,
                keep_equal=self.job.kl_coef > 0 and self.options.equal_groups == "keep",
                share=self.lm.has_trees,
                max_tokens=self.batch_tokens,
                pair_cost=self.pair_cost,
            )
            loss = kl = 0.0
            try:
                for part in make_batches(pieces, self.batch_tokens):
                    terms = self._backward(part)
                    loss, kl = loss + terms.loss, kl + terms.kl
                # The groups that were left out have no estimate: the mean is that of the others.
                return Terms(loss, kl / sum(sum(piece.weights) for piece in pieces)) if pieces else None
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            # Outside of the handler: the error holds on to what the pass had in memory.
            self._need_less_memory(max(len(g.prompt) + max(map(len, g.completions)) for g in groups), reason)

    def _backward(self, part: Sequence[Piece]) -> Terms:
        job, lm = self.job, self.lm
        pad = min(lm.stop, default=0)

        def policy(tries: Sequence[Trie]) -> Tensor:
            with lm.make_precision_context():
                return compute_log_probabilities(lm.model, tries, job.temperature, pad, self.is_head_linear)

        def start(tries: Sequence[Trie]) -> Tensor:
            # Without its adapters the model is the starting model, so a copy is not needed.
            without_adapters: AbstractContextManager[Any] = (
                self.adapted.disable_adapter() if self.adapted else nullcontext()
            )
            with lm.make_precision_context(), without_adapters:
                model = self.reference or lm.model
                return compute_log_probabilities(model, tries, job.temperature, pad, self.is_head_linear)

        return backward(part, policy, start if job.kl_coef > 0 else None, job.kl_coef)

    def _need_less_memory(self, longest: int, reason: str) -> None:
        """Halve the training passes, or compute layers again, after a pass for which the memory was too small.

        Args:
            longest: number of tokens of the longest answer of the step with its prompt. A pass cannot be smaller.
            reason: the text of the error.

        Raises:
            DsrlError: the passes cannot be made smaller.
        """
        self.optimizer.zero_grad(set_to_none=True)  # a part of the gradient may have been added already
        gc.collect()
        if self.lm.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch_tokens > longest:
            whole, self.batch_tokens = self.batch_tokens, max(longest, self.batch_tokens // 2)
            log.warning(
                "The memory is too small for a training pass of %d tokens. From now on a pass has %d tokens.",
                whole, self.batch_tokens,
            )  # fmt: skip
        elif self.options.gradient_checkpointing == "auto" and not self.is_recomputed and self._recompute_layers():
            self.is_recomputed = True
            log.warning("The memory is too small for a training pass. From now on layers are computed again backward.")
        else:
            raise DsrlError(
                f"The memory is too small to train on an answer of {longest} tokens with its prompt. Give a smaller "
                "--max-completion-tokens, train adapters with --lora-rank, or use --trainer-option "
                f"gradient_checkpointing=on. ({reason})"
            )

    def _watch_equal_groups(self, share: float, step: int) -> None:
        """Warn once if all answers to every prompt have had the same reward for some steps in a row."""
        self.equal_steps_in_a_row = self.equal_steps_in_a_row + 1 if share == 1 else 0
        if self.equal_steps_in_a_row == _MAX_EQUAL_STEPS and not self.is_warned_of_equal_groups:
            self.is_warned_of_equal_groups = True
            log.warning(
                "In the last %d steps (to step %d) all answers to a prompt had the same reward, so the model learns "
                "nothing. Perhaps it always gives the same answer. Give a lower --learning-rate, a higher "
                "--train-temperature or a larger --group-size, or samples that are neither too easy nor too hard.",
                _MAX_EQUAL_STEPS, step,
            )  # fmt: skip

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
        if self.choice is not None:
            self.choice.set_state(state["choice"])
        if "passes" in state:  # the memory was too small for those that were planned
            self.batch_tokens, is_recomputed = state["passes"]
            if is_recomputed and not self.is_recomputed:
                self.is_recomputed = self._recompute_layers()
        log.info("The training continues after step %d.", state["step"])
        return int(state["step"])

    def _save_checkpoint(self, step: int, seconds: float) -> None:
        self.checkpoints.save(
            {
                "step": step,
                "weights": {name: weight.detach() for name, weight in self.weights.items()},
                "optimizer": self.optimizer.state_dict(),
                "skipped": [self.skipped, self.skipped_in_a_row],
                "passes": [self.batch_tokens, self.is_recomputed],
                **({"choice": self.choice.get_state()} if self.choice is not None else {}),
            },
            seconds,
        )

    def _save_model(self) -> None:
        lm: LanguageModel = self.lm
        model = merge_adapters(self.adapted) if self.adapted else lm.model
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


def check_reward(answer: tuple[TrainItem, str], reward: Any) -> float:
    """Return a reward if it is a finite number.

    Raises:
        PluginError: it is not.
    """
    if not isinstance(reward, int | float) or not math.isfinite(reward):
        item, output = answer
        raise PluginError(
            f"The task's reward of {output[:80]!r} with label {item.label!r} is {reward!r}; it must be a finite number."
        )
    return reward if isinstance(reward, Reward) else float(reward)


def average_tasks(items: Sequence[TrainItem], rewards: Mapping[str, float]) -> dict[str, float]:
    """Return ``task_reward/<task>`` -> the mean reward of the items of this task; empty in a run of one task."""
    by_task: dict[str, list[float]] = {}
    for item in items:
        by_task.setdefault(item.task, []).append(rewards[item.id])
    return {f"task_reward/{task}": sum(own) / len(own) for task, own in by_task.items() if task}


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
