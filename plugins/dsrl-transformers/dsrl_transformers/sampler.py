"""The sampler ``transformers``: runs a model of the Hugging Face library in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dsrl import hookimpl
from dsrl_transformers.options import whole_number

if TYPE_CHECKING:
    from dsrl_transformers.language_model import LanguageModel


class TransformersSampler:
    """Samples from a causal language model; see :class:`dsrl.plugins.specs.SamplerSpec`.

    Calls are worked off one after the other in one thread, so that the event loop stays free. The same call gives the
    same texts on the same machine, whatever else is sampled; calls with some dozens of prompts are the quickest.

    Args:
        model: a folder in Hugging Face form or a hub id. It is loaded when it is first needed.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``auto`` (bfloat16 on CUDA where it is supported, else float32), ``float32``, ``bfloat16``.
        cache_tokens: about how many tokens' keys and values are held at once. A token takes 57 kB in a 7B model with
            grouped queries in bfloat16 (2 GB for the default), 10 kB in a model of a few million parameters.
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", cache_tokens: int = 32768) -> None:
        self._name, self._device, self._dtype = model, device, dtype
        self._cache_tokens = whole_number("--sampler-option cache_tokens", cache_tokens, 1)
        self._thread: ThreadPoolExecutor | None = None
        self._model: LanguageModel | None = None

    @hookimpl
    async def sample(
        self, prompts: Sequence[str], n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[str]]:
        """Give ``n`` completions of each prompt.

        A prompt that is longer than the model's context leaves loses its beginning, with a warning.

        Raises:
            DataError: there is no readable model under the given name.
            DsrlError: the device's memory is too small, or the model's logits are not numbers.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dsrl-sampler")
        # A thread cannot be interrupted: it looks at this between forward passes, so that Ctrl-C need not wait.
        unwanted = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(
            self._thread, self._sample, list(prompts), n, temperature, top_p, max_tokens, seed, unwanted
        )
        try:
            return await work
        finally:
            unwanted.set()

    @hookimpl
    def check(self) -> None:
        """Find what is wrong with the device, the dtype and the model's files, without loading the weights.

        Raises:
            DataError: there is no readable model under the given name.
            SettingsError: no such device or type here.
        """
        from dsrl_transformers.language_model import check_device, quiet
        from dsrl_transformers.model_files import check_model

        check_device(self._device, self._dtype)
        with quiet():
            check_model(self._name)

    @hookimpl
    def close(self) -> None:
        """Let go of the model and its memory."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
        if self._model is not None:
            on_cuda = self._model.model.device.type == "cuda"
            self._model = None
            if on_cuda:
                import torch

                torch.cuda.empty_cache()

    def _sample(
        self,
        prompts: list[str],
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
        unwanted: threading.Event,
    ) -> list[list[str]]:
        # Not at the top: torch takes seconds to import, and looking at the list of plugins must not.
        from dsrl_transformers.language_model import load

        if unwanted.is_set():
            return []
        if self._model is None:
            self._model = load(self._name, self._device, self._dtype)
        lm = self._model
        ids, limit = lm.fit([lm.encode(prompt) for prompt in prompts], max_tokens)
        drawn = lm.draw(
            ids,
            n,
            temperature=temperature,
            top_p=top_p,
            max_tokens=limit,
            seed=seed,
            cache_tokens=self._cache_tokens,
            cancelled=unwanted.is_set,
        )
        texts = []
        for d in drawn:
            distinct = [lm.text(tokens) for tokens in d.distinct]
            texts.append([distinct[i] for i in d.which])
        return texts
