"""Between the texts of a run and the tokens of a model, without the model: the same for every sampler and trainer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsrl import Prompt
from dsrl_transformers.model_files import translate_errors
from dsrl_transformers.prompts import encode_prompt, find_end_of_turn

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TextCodec:
    """A tokenizer with what the model says of its prompts and answers.

    Attributes:
        tokenizer: the tokenizer of the model.
        stop: tokens that end a completion.
        context: length of the model's context in tokens; None if the model's settings do not say it.
    """

    tokenizer: Any
    stop: frozenset[int]
    context: int | None

    def encode(self, prompt: Prompt) -> list[int]:
        """Turn a prompt into tokens, at least one.

        Raises:
            DataError: the chat template cannot render the prompt.
        """
        ids = encode_prompt(self.tokenizer, prompt)
        if ids:
            return ids
        start = self.tokenizer.bos_token_id
        return [min(self.stop, default=0) if start is None else start]

    def decode_text(self, tokens: Sequence[int]) -> str:
        """Turn the tokens of a completion into text, without stop tokens and other special tokens."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def cut_to_context(self, prompts: Sequence[list[int]], max_tokens: int) -> tuple[list[list[int]], int]:
        """Shorten prompts, and the maximum length of completions, so that both fit into the model's context.

        A prompt loses its beginning, because the end of the question and the output instruction come last. Completions leave
        at least half of the context to the prompt.
        """
        if self.context is None:
            return list(prompts), max_tokens
        max_tokens = min(max_tokens, self.context // 2)
        room = self.context - max_tokens
        too_long = sum(len(ids) > room for ids in prompts)
        if too_long:
            log.warning(
                "%d of %d prompts have more than %d tokens, the space that the model's context leaves for a prompt. Their "
                "beginnings are cut off.",
                too_long, len(prompts), room,
            )  # fmt: skip
        start = self.tokenizer.bos_token_id
        shortened = []
        for ids in prompts:
            head = ids[:1] if ids[0] == start and len(ids) > room else []
            shortened.append(head + ids[max(0, len(ids) - room + len(head)) :] if len(ids) > room else ids)
        return shortened, max_tokens


def load_codec(name: str) -> TextCodec:
    """Load the tokenizer and the settings of a model, without its weights.

    Args:
        name: a folder in Hugging Face form or a hub id.

    Raises:
        DataError: they cannot be read.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    with translate_errors(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    with translate_errors(name):
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=False)
        try:
            generation: Any = GenerationConfig.from_pretrained(name)
        except OSError:  # the model has no file of it; its settings then stand in the configuration
            generation = GenerationConfig.from_model_config(config)
    return TextCodec(tokenizer=tokenizer, stop=collect_stop_tokens(generation, tokenizer), context=read_context(config))


def collect_stop_tokens(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a completion: those of the model, of its tokenizer and of its chat template."""
    ids = getattr(generation_config, "eos_token_id", None)
    tokens = [ids] if isinstance(ids, int) else list(ids or [])
    if tokenizer.eos_token_id is not None:
        tokens.append(tokenizer.eos_token_id)
    return frozenset({*tokens, *find_end_of_turn(tokenizer)})


def read_context(config: Any) -> int | None:
    """Return the length of a model's context in tokens; None if its configuration does not say it."""
    return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
