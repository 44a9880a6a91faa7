"""The trainer ``rejection_sampling``: sample answers, keep the best, and fine-tune on them (also called RAFT).

Each step samples ``group_size`` answers for each of ``batch_size`` prompts with the model of that moment. Of every prompt
whose answers earn different rewards, the best answer is kept; one step of AdamW makes the kept answers more probable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dsrl import BoundPlugin, DsrlError, TrainItem, TrainJob, TrainStep, compute_rewards, hookimpl


class RejectionSamplingTrainer:
    """Trains all weights on one device, without a KL term. It writes a checkpoint after every step."""

    @hookimpl
    def check(self, job: TrainJob) -> None:
        if job.lora_rank:
            raise DsrlError("the trainer 'rejection_sampling' trains all weights; remove --lora-rank")

    @hookimpl
    def takes_several_tasks(self) -> bool:
        return True

    @hookimpl
    def takes_judged_tasks(self) -> bool:
        return True

    @hookimpl
    def train(self, job: TrainJob, task: BoundPlugin[Any], on_step: Callable[[TrainStep], None]) -> None:
        import torch  # Not at the top: it takes seconds, and `dsrl plugins` must stay quick.
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # dsrl shows its own progress
        device = ("cuda" if torch.cuda.is_available() else "cpu") if job.device == "auto" else job.device
        tokenizer = AutoTokenizer.from_pretrained(job.model)
        model: Any = AutoModelForCausalLM.from_pretrained(job.model)
        model.to(device).eval()  # eval: no dropout
        optimizer = torch.optim.AdamW(model.parameters(), lr=job.learning_rate)
        items = [item for item in job.items if len(tokenizer(item.prompt).input_ids) <= job.max_prompt_tokens]
        batches = [items[at : at + job.batch_size] for at in range(0, len(items), job.batch_size)] * job.epochs

        job.work_dir.mkdir(parents=True, exist_ok=True)
        checkpoint, done = job.work_dir / "checkpoint.pt", 0
        with suppress(FileNotFoundError):
            state = torch.load(checkpoint, map_location=device)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            done = state["step"]

        def improve(item: TrainItem) -> tuple[float, float]:
            """Add the gradient of the best answer to an item; return the mean reward and the loss."""
            ids = tokenizer(item.prompt, return_tensors="pt").input_ids.to(device)
            answers = model.generate(
                ids,
                attention_mask=ids != -1,
                do_sample=True,
                top_k=0,
                top_p=job.top_p,
                temperature=job.temperature,
                max_new_tokens=job.max_completion_tokens,
                num_return_sequences=job.group_size,
                pad_token_id=tokenizer.eos_token_id,
            )
            texts = tokenizer.batch_decode(answers[:, ids.shape[1] :], skip_special_tokens=True)
            rewards = compute_rewards(task, [(item, text) for text in texts])  # by the rules or the judge of its task
            if min(rewards) == max(rewards):
                return rewards[0], 0.0  # No answer is better than another: there is nothing to learn.
            best = answers[rewards.index(max(rewards)), None]
            labels = best.clone()
            labels[:, : ids.shape[1]] = -100  # only the answer is learnt, not the prompt
            ends = (best[0, ids.shape[1] :] == tokenizer.eos_token_id).nonzero()
            if len(ends):
                labels[:, ids.shape[1] + int(ends[0]) + 1 :] = -100  # nor what fills up the row behind its end
            loss = model(input_ids=best, labels=labels).loss
            loss.backward()
            return sum(rewards) / len(rewards), loss.item()

        for step, batch in enumerate(batches[done:], start=done + 1):
            torch.manual_seed(job.seed * 1_000_003 + step)  # A step that is repeated after a kill has the same values.
            results = {item.id: improve(item) for item in batch}
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, checkpoint.with_suffix(".partial"))
            os.replace(
                checkpoint.with_suffix(".partial"), checkpoint
            )  # A kill leaves the old or the new, never a half.
            rewards = {name: reward for name, (reward, _) in results.items()}
            metrics = {
                "reward": sum(rewards.values()) / len(batch),
                "loss": sum(loss for _, loss in results.values()) / len(batch),
                "learning_rate": job.learning_rate,
            }
            on_step(TrainStep(step, len(batches), step * job.epochs / len(batches), metrics, rewards))
        model.save_pretrained(job.output_dir)
        tokenizer.save_pretrained(job.output_dir)
