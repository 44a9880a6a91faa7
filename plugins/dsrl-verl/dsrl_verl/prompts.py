"""Prompts for verl: which chat template makes verl read the tokens that dsrl's sampler reads, and which are too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsrl import DsrlError, TrainItem, TrainJob
from dsrl_verl.verl_settings import PLAIN_TEMPLATE


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is known of the prompts of a job.

    Attributes:
        items: the items whose prompt is not too long, in their order.
        left_out: number of the others.
        template: the chat template that replaces the model's; None keeps it.
    """

    items: tuple[TrainItem, ...]
    left_out: int
    template: str | None


def select_prompts(job: TrainJob, tokenizer: Any, context: int | None) -> Prompts:
    """Leave out the items whose prompt is too long, and choose the template.

    verl renders every prompt with a chat template. A prompt that is no chat gets one that writes the text as it is.

    Args:
        job: the items, and how long a prompt may be.
        tokenizer: the tokenizer of the base model.
        context: length of the model's context in tokens; None if it is not known.

    Raises:
        DsrlError: no item is left, or verl cannot be made to read the same tokens.
    """
    from dsrl_transformers.prompts import encode_prompt

    room = job.max_prompt_tokens
    if context is not None:
        room = min(room, context - job.max_completion_tokens)
    encoded = [(item, encode_prompt(tokenizer, item.prompt, job.model)) for item in job.items]
    kept = [(item, tokens) for item, tokens in encoded if len(tokens) <= room]
    if not kept:
        raise DsrlError(
            f"None of {len(job.items)} training items has a prompt of at most {room} tokens, so there is nothing to train "
            f"on. Raise --max-prompt-tokens ({job.max_prompt_tokens}), or give a model with a longer context."
        )
    template = _choose_template(kept, tokenizer, job.model)
    return Prompts(tuple(item for item, _ in kept), len(encoded) - len(kept), template)


def _choose_template(kept: Sequence[tuple[TrainItem, list[int]]], tokenizer: Any, model: str) -> str | None:
    kinds = {item.prompt.is_chat for item, _ in kept}
    if kinds == {True}:
        return None
    if len(kinds) > 1:
        raise DsrlError("Some prompts are chats and some are not; verl has one template for all. Give --chat-template.")
    for template in (PLAIN_TEMPLATE, "{{ bos_token }}" + PLAIN_TEMPLATE):
        if all(_render(tokenizer, item, template) == tokens for item, tokens in kept):
            return template
    raise DsrlError(
        f"The tokenizer of {model} adds tokens to a text that a chat template of verl cannot write, so verl would train on "
        "other prompts than the ones that were scored. Train with --trainer grpo."
    )


def _render(tokenizer: Any, item: TrainItem, template: str) -> list[int]:
    messages = [{"role": "user", "content": item.prompt.plain_text}]
    rendered = tokenizer.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return [int(token) for token in rendered]
