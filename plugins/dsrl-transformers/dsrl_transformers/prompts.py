"""How a prompt becomes the tokens that the model reads: in one place, so that sampler and trainer see the same tokens."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dsrl import DataError, Prompt

#: A text that no template contains.
_PROBE = "dsrl7probe"


def encode_prompt(tokenizer: Any, prompt: Prompt, model: str = "the model") -> list[int]:
    """Turn a prompt into tokens.

    A chat template writes its own special tokens, so none are added to it. A plain text gets those that the tokenizer adds,
    such as the token for the beginning of a text.

    Args:
        tokenizer: the tokenizer of the model.
        prompt: the prompt.
        model: name of the model, for the error text.

    Raises:
        DataError: the model has no chat template, or the template cannot render the prompt.
    """
    if not prompt.is_chat:
        ids: list[int] = tokenizer(prompt.plain_text)["input_ids"]
        return ids
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    try:
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    except Exception as error:
        hint = "leave --system-prompt out, or " if prompt.system else ""
        first_line = str(error).strip().split("\n")[0][:300]
        raise DataError(
            f"the chat template of {model} cannot render a prompt: {type(error).__name__}: {first_line}; {hint}give "
            "--chat-template off"
        ) from error
    return [int(token) for token in rendered]


def has_chat_template(tokenizer: Any, system: str, model: str) -> bool:
    """Return whether a tokenizer has a chat template, after a test that it can render a prompt.

    Raises:
        DataError: the template cannot render a prompt with this system text.
    """
    if not getattr(tokenizer, "chat_template", None):
        return False
    encode_prompt(tokenizer, Prompt(_PROBE, system, is_chat=True), model)
    return True


def find_end_of_turn(tokenizer: Any) -> set[int]:
    """Return the special token with which the chat template ends an answer; an empty set if there is none.

    The end-of-text token in a tokenizer's settings is often another one, so that the model would go on after its answer.
    """
    if not getattr(tokenizer, "chat_template", None):
        return set()
    with suppress(Exception):
        messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": _PROBE}]
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
        tail = tokenizer(text.rpartition(_PROBE)[2].lstrip(), add_special_tokens=False)["input_ids"]
        if tail and tail[0] in {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}:
            return {int(tail[0])}
    return set()
