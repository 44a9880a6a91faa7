"""The sampler ``transformers``: it runs a model of the Hugging Face library in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dsrl import DataError, Finding, Prompt, hookimpl
from dsrl_transformers.options import check_whole_number

if TYPE_CHECKING:
    from dsrl_transformers.decode import DecodeSettings
    from dsrl_transformers.language_model import LanguageModel


class TransformersSampler:
    """Samples from a causal language model; see :class:`dsrl.plugins.specs.SamplerSpec`.

    The calls run one after the other in one thread, so that the event loop stays free. The same call returns the same
    texts on the same machine, whatever else is sampled. Calls with several dozen prompts are the fastest.

    Args:
        model: a folder in Hugging Face form or a hub id. The model is loaded when it is first needed.
        device: ``auto`` (CUDA if there is a CUDA device), ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``auto`` (bfloat16 on CUDA if the device supports it, else float32), ``float32``, ``bfloat16``.
        cache_tokens: approximate maximum number of tokens whose keys and values are in memory at once. A token takes 57 kB
            in a 7B model with grouped queries in bfloat16, and 10 kB in one of a few million parameters. Without a number,
            they may take half of the memory of a CUDA device that the weights leave, or a quarter of the main memory
            (:func:`~dsrl_transformers.memory.choose_cache_tokens`).
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", cache_tokens: int | None = None) -> None:
        self._name, self._device, self._dtype = model, device, dtype
        self._cache_tokens = 0
        if cache_tokens is not None:
            self._cache_tokens = check_whole_number("--sampler-option cache_tokens", cache_tokens, 1)
        self._thread: ThreadPoolExecutor | None = None
        self._model: LanguageModel | None = None

    @hookimpl
    async def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
        first: int,
        adapter: Path | None,
    ) -> list[list[str]]:
        """Return ``n`` completions of each prompt; see :meth:`dsrl.plugins.specs.SamplerSpec.sample`.

        A prompt that does not fit into the model's context loses its beginning, with a warning. An adapter is loaded again
        for each call, so calls with many prompts are faster.

        Raises:
            DataError: the name leads to no readable model, or the folder holds no adapter for this model.
            DsrlError: the device's memory is too small, the model's logits are not numbers, or peft is needed for an adapter
                and not installed.
        """
        # Not at the top: torch takes seconds to import, and `dsrl plugins list` imports this module.
        from dsrl_transformers.decode import DecodeSettings

        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dsrl-sampler")
        settings = DecodeSettings(n, temperature, top_p, max_tokens, seed, self._cache_tokens, first)
        # A thread cannot be interrupted. It reads this event between forward passes, so that Ctrl-C works at once.
        cancellation = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(
            self._thread, self._sample, list(prompts), settings, adapter, cancellation
        )
        try:
            return await work
        finally:
            cancellation.set()

    @hookimpl
    def check(self, prompts: Sequence[Prompt], max_tokens: int) -> None:
        """Check the device, the dtype, the files of the model, its context and the memory, without loading the model.

        Raises:
            DataError: the name leads to no readable model, or its weights are broken.
            SettingsError: this machine does not have the device, the dtype is not supported, the model's context is too
                short for a prompt and an answer, or the memory is too small.
        """
        from dsrl_transformers.language_model import hide_progress_bars, resolve_device
        from dsrl_transformers.memory_check import check_sampling_memory
        from dsrl_transformers.model_files import check_model
        from dsrl_transformers.prompts import check_prompt_room
        from dsrl_transformers.weights_check import check_weights

        device, dtype = resolve_device(self._device, self._dtype)
        with hide_progress_bars():
            facts = check_model(self._name)
            check_prompt_room(self._name, facts.context, prompts, max_tokens)
            check_sampling_memory(self._name, facts, device, dtype.itemsize)
            check_weights(self._name)

    @hookimpl
    def has_chat_template(self, system: str) -> bool:
        """Return whether the model has a chat template, after a test that the template can render a prompt.

        Raises:
            DataError: the name leads to no readable tokenizer, or the template cannot render a prompt that the model can
                read.
        """
        from transformers import AutoConfig, AutoTokenizer

        from dsrl_transformers.model_files import translate_errors
        from dsrl_transformers.prompts import has_chat_template

        with translate_errors(self._name, "tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(self._name, trust_remote_code=False)
        with translate_errors(self._name):
            config = AutoConfig.from_pretrained(self._name, trust_remote_code=False)
        vocabulary = getattr(config.get_text_config(decoder=True), "vocab_size", None)
        return has_chat_template(tokenizer, system, self._name, vocabulary)

    @hookimpl
    def diagnose(self, model: str) -> list[Finding]:
        """Say on which device the sampler works, and which sizes of models fit."""
        from dsrl_transformers.diagnosis import diagnose_sampling

        return diagnose_sampling(model)

    @hookimpl
    async def aclose(self) -> None:
        """Release the model and its memory."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown, wait=True, cancel_futures=True)
        if self._model is not None:
            is_on_cuda = self._model.model.device.type == "cuda"
            self._model = None
            if is_on_cuda:
                import torch

                torch.cuda.empty_cache()

    def _sample(
        self,
        prompts: Sequence[Prompt],
        settings: DecodeSettings,
        adapter: Path | None,
        cancellation: threading.Event,
    ) -> list[list[str]]:
        from dsrl_transformers.language_model import load_model
        from dsrl_transformers.lora import use_adapter

        if cancellation.is_set():
            return []
        if self._model is None:
            self._model = load_model(self._name, self._device, self._dtype)
        lm = self._model
        tokens, settings = lm.fit_to_context([lm.encode(prompt) for prompt in prompts], settings)
        try:
            with use_adapter(lm.model, adapter):
                results = lm.complete(tokens, settings, cancellation.is_set)
        except DataError:
            self._model = None  # parts of an unreadable adapter may be on it
            raise
        rows = []
        for completions in results:
            texts = [lm.decode_text(ids) for ids in completions.distinct]
            rows.append([texts[i] for i in completions.indices])
        return rows
