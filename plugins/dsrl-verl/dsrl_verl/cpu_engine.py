"""The engine that answers in CPU mode: dsrl's own sampler in a Ray actor, which gets new weights after each step.

An answer depends on the prompt, the seed, the step and its number among the answers to the prompt, and not on when it was
asked for. So a step that is repeated after a kill has the same answers, but for rounding.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

#: Seconds without a new question after which those that wait are answered together.
_QUIET = 0.1
Question = tuple[tuple[int, ...], tuple[float, float, int], "asyncio.Future[list[int]]"]


class Engine:
    """Answers questions in batches.

    Args:
        path: the model.
        seed: seed of the answers.
        max_tokens: maximum length of an answer if a question does not say it.
    """

    def __init__(self, path: str, seed: int, max_tokens: int) -> None:
        from dsrl_transformers.language_model import load_model

        self._lm = load_model(path, "cpu", "float32")
        self._seed, self._max_tokens, self._step = seed, max_tokens, 0
        self._asked: Counter[tuple[Any, ...]] = Counter()
        self._waiting: list[Question] = []
        self._work: asyncio.Task[None] | None = None

    async def generate(
        self, prompt_ids: Sequence[int], sampling_params: Mapping[str, Any], request_id: str, **kwargs: Any
    ) -> Any:
        """Answer a question; verl's interface."""
        rules = (
            float(sampling_params.get("temperature", 1.0)),
            float(sampling_params.get("top_p", 1.0)),
            int(sampling_params.get("max_tokens", self._max_tokens)),
        )
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((tuple(int(token) for token in prompt_ids), rules, future))
        if self._work is None:
            self._work = asyncio.create_task(self._answer_all())
        tokens = await future
        return TokenOutput(token_ids=tokens, stop_reason="completed", extra_fields={"global_steps": self._step})

    async def _answer_all(self) -> None:
        while self._waiting:
            count = 0
            while count < len(self._waiting):  # verl sends the questions of a step one by one
                count = len(self._waiting)
                await asyncio.sleep(_QUIET)
            questions, self._waiting = self._waiting, []
            try:
                answers = await asyncio.to_thread(self._draw, [(prompt, rules) for prompt, rules, _ in questions])
            except Exception as error:  # noqa: BLE001 - each question must get an answer, or verl waits for ever
                for _, _, future in questions:
                    future.set_exception(error)
                continue
            for (_, _, future), tokens in zip(questions, answers, strict=True):
                future.set_result(tokens)
        self._work = None

    def _draw(self, questions: Sequence[tuple[tuple[int, ...], tuple[float, float, int]]]) -> list[list[int]]:
        """Answer questions; those that ask the same get the next answers to it."""
        from dsrl_transformers.decode import DecodeSettings

        counts = Counter(questions)
        batches: dict[tuple[Any, ...], list[tuple[int, ...]]] = defaultdict(list)
        for (prompt, rules), n in counts.items():
            batches[rules, n, self._asked[prompt, rules]].append(prompt)
            self._asked[prompt, rules] += n
        answers: dict[tuple[Any, ...], list[list[int]]] = {}
        for ((temperature, top_p, max_tokens), n, first), prompts in batches.items():
            settings = DecodeSettings(
                n=n,
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                seed=(self._seed << 32) + self._step + 1,
                cache_tokens=0,
                first=first,
            )
            for prompt, drawn in zip(prompts, self._lm.complete([list(p) for p in prompts], settings), strict=True):
                answers[prompt, (temperature, top_p, max_tokens)] = [list(drawn.distinct[i]) for i in drawn.indices]
        return [answers[question].pop() for question in questions]

    async def load(self, weights: Mapping[str, Any], step: int | None) -> None:
        """Take the weights after a step."""
        from dsrl_verl.model import load_weights

        load_weights(self._lm.model, weights)
        await self.set_global_steps(self._step if step is None else step)

    async def set_global_steps(self, step: int) -> None:
        """Take the number of the last step."""
        self._step = step
        self._asked.clear()

    async def is_ready(self) -> bool:
        """Return True when the model is loaded."""
        return True

    # verl calls these for memory that only a GPU has, and for what it does not use with this engine.
    async def wake_up(self, tags: Any = None) -> None: ...

    async def sleep(self) -> None: ...

    async def clear_kv_cache(self) -> None: ...

    async def release_kv_cache(self) -> None: ...

    async def resume_kv_cache(self) -> None: ...

    async def resume_generation(self) -> None: ...

    async def abort_all_requests(self, **kwargs: Any) -> dict[str, Any]:
        return {"aborted_count": 0, "request_ids": []}

    async def start_profile(self, **kwargs: Any) -> None: ...

    async def stop_profile(self) -> None: ...


def _name_engine(rank: int) -> str:
    return f"dsrl_cpu_engine_{rank}"


class CpuReplica(RolloutReplica):  # type: ignore[misc]
    """Starts the engine; verl's interface."""

    def rollout_worker_use_gpu(self) -> bool:
        return False

    async def launch_servers(self) -> None:
        import ray

        name = _name_engine(self.replica_rank)
        options = {"name": name, "num_cpus": 1, "max_concurrency": 10_000}
        engine = (
            ray.remote(Engine)
            .options(**options)
            .remote(self.model_config.path, self.config.seed, self.config.response_length)
        )
        await engine.is_ready.remote()
        self.servers, self._server_handle, self._server_address = [engine], engine, name


class CpuAdapter(BaseRollout):  # type: ignore[misc]
    """Brings the weights of a worker to the engine; verl's interface."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        self._rank = int(os.environ["RANK"]) if replica_rank == -1 else replica_rank
        self._engine: Any = None

    async def resume(self, tags: list[str]) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(
        self, weights: Any, global_steps: int | None = None, wire_format: str = "named_tensors", **kwargs: Any
    ) -> None:
        """Send the weights."""
        import ray

        if self._engine is None:
            self._engine = ray.get_actor(_name_engine(self._rank))
        is_async = hasattr(weights, "__aiter__")
        pairs = [(name, weight) async for name, weight in weights] if is_async else list(weights)
        state = {name: weight.detach().float().cpu().clone() for name, weight in pairs}
        await self._engine.load.remote(state, global_steps)
