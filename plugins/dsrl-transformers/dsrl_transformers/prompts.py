"""How a prompt becomes the tokens that the model reads: in one place, so that sampler and trainer see the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dsrl import Prompt, SettingsError
from dsrl_transformers.model_files import translate_errors
from dsrl_transformers.template_check import PROBE, check_template, make_template_error


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
        raise make_template_error(model, f"{type(error).__name__}: {error}", prompt.system) from error
    return [int(token) for token in rendered]


def has_chat_template(tokenizer: Any, system: str, model: str, vocabulary: int | None = None) -> bool:
    """Return whether a tokenizer has a chat template, after a test that it can render a prompt in little time and memory.

    Args:
        tokenizer: the tokenizer of the model.
        system: the system text; may be empty.
        model: name of the model, for the error text.
        vocabulary: number of tokens of the model; None if it is not known.

    Raises:
        DataError: the template cannot render a prompt with this system text, leaves out the text of the user, or writes a
            token that the model does not have.
    """
    if not getattr(tokenizer, "chat_template", None):
        return False
    check_template(tokenizer, system, model)
    highest = max(encode_prompt(tokenizer, Prompt(PROBE, system, is_chat=True), model), default=0)
    if vocabulary is not None and highest >= vocabulary:
        token = tokenizer.convert_ids_to_tokens(highest)
        reason = f"it writes the token {token!r} (number {highest}), and the model has only {vocabulary} tokens"
        raise make_template_error(model, reason, system)
    return True


def find_end_of_turn(tokenizer: Any) -> set[int]:
    """Return the special token with which the chat template ends an answer; an empty set if there is none.

    The end-of-text token in a tokenizer's settings is often another one, so that the model would go on after its answer.
    """
    if not getattr(tokenizer, "chat_template", None):
        return set()
    with suppress(Exception):
        messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": PROBE}]
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
        tail = tokenizer(text.rpartition(PROBE)[2].lstrip(), add_special_tokens=False)["input_ids"]
        if tail and tail[0] in {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}:
            return {int(tail[0])}
    return set()


def check_prompt_room(
    model: str, context: int | None, prompts: Sequence[Prompt], max_tokens: int, max_prompt_tokens: int | None = None
) -> None:
    """Check that the context of a model has space for prompts beside the answers.

    Args:
        model: a folder or a hub id.
        context: length of the context in tokens; None if it is not known.
        prompts: examples, of which at least one must fit; there may be none.
        max_tokens: maximum length of an answer in tokens.
        max_prompt_tokens: maximum length of a prompt in training; None: there is no such limit.

    Raises:
        DataError: the tokenizer cannot be read.
        SettingsError: there is no space for a prompt, or not enough for any of the examples.
    """
    answer = f"--max-completion-tokens {max_tokens}"
    if context is not None and context <= max_tokens:
        raise SettingsError(
            f"the context of {model} is {context} tokens, so {answer} leaves no space for a prompt; give a smaller number, "
            "or a model with a longer context"
        )
    if not prompts:
        return
    from transformers import AutoTokenizer

    with translate_errors(model, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        # Without a chat template, which is not tried yet and only makes prompts longer.
        shortest = min(len(tokenizer(prompt.plain_text)["input_ids"]) for prompt in prompts)
    if context is not None and shortest > context - max_tokens:
        raise SettingsError(
            f"the context of {model} is {context} tokens: beside {answer} it has space for a prompt of "
            f"{context - max_tokens} tokens, and the shortest example of the task has {shortest}; give a smaller "
            "--max-completion-tokens, or a model with a longer context"
        )
    if max_prompt_tokens is not None and shortest > max_prompt_tokens:
        raise SettingsError(
            f"--max-prompt-tokens {max_prompt_tokens} is less than the shortest example of the task has ({shortest} "
            "tokens), so nothing could be trained on; give a larger number"
        )
