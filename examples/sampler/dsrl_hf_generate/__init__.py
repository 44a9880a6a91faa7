"""The sampler ``hf_generate``: the method ``generate`` of Hugging Face transformers, with a chat template."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from dsrl import Prompt, hookimpl


class HfGenerateSampler:
    """Samples from a causal language model in this process.

    Args:
        model: a folder or a hub id; dsrl gives it.
        device: a device of torch, e.g. ``cpu`` or ``cuda``.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        self._name, self._device = model, device
        self._model: Any = None
        self._tokenizer: Any = None
        self._lock = threading.Lock()  # One call at a time: the random numbers of torch belong to the whole process.

    @hookimpl
    async def sample(
        self, prompts: Sequence[Prompt], n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[str]]:
        settings: dict[str, Any] = {
            "max_new_tokens": max_tokens,
            "num_return_sequences": n,
            "do_sample": temperature > 0,
        }
        if temperature > 0:
            settings |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
        else:
            settings["num_return_sequences"] = 1
        texts = await asyncio.to_thread(self._generate, prompts, seed, settings)
        return [row if temperature > 0 else row * n for row in texts]

    @hookimpl
    async def aclose(self) -> None:
        self._model = None

    def _generate(self, prompts: Sequence[Prompt], seed: int, settings: dict[str, Any]) -> list[list[str]]:
        import torch  # Not at the top: it takes seconds, and `dsrl plugins` must stay quick.
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # dsrl shows its own progress
        with self._lock:
            if self._model is None:
                self._tokenizer = AutoTokenizer.from_pretrained(self._name)
                self._model = AutoModelForCausalLM.from_pretrained(self._name)
                self._model.to(self._device).eval()
            torch.manual_seed(seed)
            texts = []
            for prompt in prompts:
                ids = self._tokenizer(self._render(prompt), return_tensors="pt").input_ids.to(self._device)
                pad = self._tokenizer.pad_token_id or self._tokenizer.eos_token_id
                output = self._model.generate(ids, attention_mask=ids != -1, pad_token_id=pad, **settings)
                texts.append(self._tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True))
            return texts

    def _render(self, prompt: Prompt) -> str:
        if not self._tokenizer.chat_template:
            return f"{prompt.system}\n\n{prompt}" if prompt.system else str(prompt)
        chat = [{"role": message.role, "content": message.content} for message in prompt.messages]
        rendered: str = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return rendered
