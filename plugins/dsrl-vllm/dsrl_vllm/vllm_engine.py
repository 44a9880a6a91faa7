"""vLLM's engine, as far as dsrl uses it. Only this module imports vLLM, and only the engine's process imports it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsrl import DataError
from dsrl_vllm.work import EngineRequest


class VllmEngine:
    """A running engine.

    Args:
        model: a folder in Hugging Face form or a hub id.
        arguments: further arguments of vLLM's ``EngineArgs``.
    """

    def __init__(self, model: str, arguments: Mapping[str, Any]) -> None:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        settings = EngineArgs(
            model=model,
            seed=0,
            trust_remote_code=False,
            generation_config="vllm",  # the model's own defaults for sampling are not those of the run
            disable_log_stats=True,
            **arguments,
        )
        self._engine = LLMEngine.from_engine_args(settings)
        self._adapters: dict[int, Any] = {}
        #: Tokens that end an answer.
        self.stop: Sequence[int] = ()

    @property
    def context(self) -> int:
        """The length of the context in tokens."""
        return int(self._engine.vllm_config.model_config.max_model_len)

    def add(self, request: EngineRequest) -> None:
        """Give a request to the engine.

        Raises:
            ValueError: vLLM refuses the request.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            n=request.attempts,
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            seed=request.seed,
            stop_token_ids=list(self.stop),
            # The texts are made by the tokenizer as everywhere else in dsrl.
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        adapter = self._adapters.get(request.adapter)
        prompt: Any = {"prompt_token_ids": list(request.tokens)}
        self._engine.add_request(request.name, prompt, parameters, lora_request=adapter)

    def step(self) -> Iterator[tuple[str, list[list[int]]]]:
        """Compute the next tokens; yield the requests that are finished, with the tokens of their attempts in order."""
        if not self._engine.has_unfinished_requests():
            return
        for output in self._engine.step():
            if output.finished:
                yield output.request_id, [list(attempt.token_ids) for attempt in output.outputs]

    def abort(self, names: list[str]) -> None:
        """Stop working on requests."""
        if names:
            self._engine.abort_request(names)

    def add_adapter(self, number: int, folder: Path) -> None:
        """Load a LoRA adapter.

        Raises:
            DataError: the folder holds no adapter for this model.
        """
        from vllm.lora.request import LoRARequest

        request = LoRARequest(f"adapter-{number}", number, str(folder))
        try:
            is_loaded = self._engine.add_lora(request)
        except Exception as error:  # vLLM raises many types
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise DataError(f"{folder} holds no adapter that can be read: {type(error).__name__}: {reason}") from error
        if not is_loaded:
            raise DataError(f"{folder} holds no adapter that vLLM can use")
        self._adapters[number] = request

    def remove_adapter(self, number: int) -> None:
        """Forget an adapter."""
        if self._adapters.pop(number, None) is not None:
            self._engine.remove_lora(number)
