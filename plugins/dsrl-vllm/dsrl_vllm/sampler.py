"""The sampler ``vllm``: vLLM's engine in a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl import DataError, DsrlError, Finding, Prompt, hookimpl
from dsrl_vllm.options import EngineOptions, parse_options

if TYPE_CHECKING:
    from dsrl_vllm.client import EngineClient
    from dsrl_vllm.process import EngineProcess

#: The ranks that vLLM has room for.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class VllmSampler:
    """Samples with vLLM; see :class:`dsrl.plugins.specs.SamplerSpec`.

    The engine runs in a process of its own, because only the end of that process gives back all of its memory. The calls
    share its batch: a call that comes while another one runs fills what is free.

    Args:
        model: a folder in Hugging Face form or a hub id. It is loaded when it is first needed.
        device: ``auto`` (GPUs, if there are any and their package of vLLM is installed), ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``auto`` (bfloat16 on GPUs, float32 on a CPU), ``float32``, ``bfloat16``.
        tensor_parallel: number of GPUs that hold the model together.
        gpu_memory: share of the memory of a GPU that the engine takes.
        cache_gb: memory for keys and values on a CPU, in GiB; 0: a quarter of what is free, and no more than can be used.
        max_sequences: attempts that are computed at once.
        context: length of the context in tokens; 0: that of the model. A shorter one needs less memory.
    """

    def __init__(
        self,
        model: str,
        device: str = "auto",
        dtype: str = "auto",
        tensor_parallel: int = 1,
        gpu_memory: float = 0.9,
        cache_gb: float = 0.0,
        max_sequences: int = 256,
        context: int = 0,
    ) -> None:
        self._options = parse_options(
            model=model,
            device=device,
            dtype=dtype,
            tensor_parallel=tensor_parallel,
            gpu_memory=gpu_memory,
            cache_gb=cache_gb,
            max_sequences=max_sequences,
            context=context,
        )
        self._client: EngineClient | None = None

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

        A prompt that does not fit into the context loses its beginning, with a warning. If the engine dies, it is started
        again once, and answers what it has not answered yet.

        Raises:
            DataError: the name leads to no readable model, or the folder holds no adapter for this model.
            DsrlError: vLLM cannot start, or its engine died twice; its last lines are shown.
            SettingsError: there are too few GPUs.
        """
        from dsrl_vllm.client import EngineClient, make_message

        if not prompts or n < 1 or max_tokens < 1:
            return [[""] * max(n, 0) for _ in prompts]
        rank = 0 if adapter is None else await asyncio.to_thread(read_rank, adapter)
        if self._client is None:
            self._client = EngineClient(self._start_engine)
        client = self._client
        message = make_message(
            [(str(prompt), prompt.system, prompt.is_chat) for prompt in prompts],
            n,
            temperature,
            top_p,
            max_tokens,
            seed,
            first,
            None if adapter is None else str(adapter.absolute()),
        )
        number, texts = await asyncio.to_thread(client.submit, message, len(prompts), rank)
        try:
            return await asyncio.wrap_future(texts)
        except asyncio.CancelledError:
            client.cancel(number)
            raise

    @hookimpl
    def check(self, prompts: Sequence[Prompt], max_tokens: int) -> None:
        """Check the installation of vLLM, the GPUs, the files of the model, its context and the memory; it loads no weights.

        Raises:
            DataError: the name leads to no readable model, or its weights are broken.
            DsrlError: a package of vLLM is missing, has an unproven version or cannot be imported.
            SettingsError: there are too few GPUs, vLLM cannot run the model here, the context is too short for a prompt and
                an answer, or the memory is too small.
        """
        from dsrl_transformers.language_model import hide_progress_bars
        from dsrl_transformers.model_files import check_model
        from dsrl_transformers.prompts import check_prompt_room
        from dsrl_transformers.weights_check import check_weights

        from dsrl_vllm.environment import check_engine, choose_device
        from dsrl_vllm.settings import check_memory, make_environment, read_architectures

        options = self._options
        device = choose_device(options)
        with hide_progress_bars():
            facts = check_model(options.model)
            context = min(filter(None, (facts.context, options.context)), default=None)
            check_prompt_room(options.model, context, prompts, max_tokens)
            check_memory(options, device, facts)
            check_weights(options.model)
            architectures = read_architectures(options.model, device)
        check_engine(device, architectures, make_environment(options, device))

    @hookimpl
    def has_chat_template(self, system: str) -> bool:
        """Return whether the model has a chat template, after a test that the template can render a prompt.

        Raises:
            DataError: the name leads to no readable tokenizer, or the template cannot render a prompt that the model can
                read.
        """
        from dsrl_transformers.sampler import TransformersSampler

        return TransformersSampler(self._options.model).has_chat_template(system)

    @hookimpl
    def diagnose(self, model: str) -> list[Finding]:
        """Say which package of vLLM this machine needs, and whether it works."""
        from dsrl_vllm.diagnosis import diagnose

        return diagnose(self._options)

    @hookimpl
    async def aclose(self) -> None:
        """End the engine's process, which gives back its memory."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    def _start_engine(
        self,
        rank: int,
        on_message: Callable[[EngineProcess, dict[str, Any]], None],
        on_end: Callable[[EngineProcess], None],
    ) -> EngineProcess:
        from dsrl_vllm.environment import choose_device
        from dsrl_vllm.process import EngineProcess
        from dsrl_vllm.settings import make_engine_settings, make_environment

        options: EngineOptions = self._options
        device = choose_device(options)
        settings = make_engine_settings(options, device, rank)
        return EngineProcess(settings, make_environment(options, device), on_message, on_end)


def read_rank(adapter: Path) -> int:
    """Return the rank of a LoRA adapter in peft's form, rounded up to one that vLLM has room for.

    Raises:
        DataError: the folder holds no such adapter.
        DsrlError: the rank is too large for vLLM.
    """
    if not adapter.is_dir():
        raise DataError(f"The folder {adapter} of a LoRA adapter does not exist.")
    try:
        values = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        rank = max([values["r"], *values.get("rank_pattern", {}).values()])
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f"its rank is {rank!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{adapter} holds no adapter that can be read: {type(error).__name__}: {error}") from error
    try:
        return next(room for room in _RANKS if room >= rank)
    except StopIteration:
        raise DsrlError(
            f"The adapter in {adapter} has the rank {rank}, and vLLM has room for at most {_RANKS[-1]}; give --sampler "
            "transformers"
        ) from None
