"""Calls of the sampler and the engine's process: an engine that dies is started again once, and nothing is lost or twice."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from dsrl import DataError, DsrlError
from dsrl_vllm.process import EngineProcess

log = logging.getLogger(__name__)

Texts = list[list[str]]
#: Makes the process of an engine that can use adapters up to a rank; 0: none.
StartEngine = Callable[
    [int, Callable[[EngineProcess, dict[str, Any]], None], Callable[[EngineProcess], None]], EngineProcess
]


@dataclass
class _Call:
    """A call that is not finished.

    Attributes:
        message: what the engine is asked.
        texts: the texts of each prompt; None for those that are not there yet.
        future: gets all of them.
    """

    message: Mapping[str, Any]
    texts: list[list[str] | None]
    future: Future[Texts] = field(default_factory=Future)


class EngineClient:
    """Sends calls to an engine, and brings back their texts. The engine is started by the first call.

    Args:
        start: starts a process with an engine.
    """

    def __init__(self, start: StartEngine) -> None:
        self._start = start
        self._lock = threading.RLock()
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self._process: EngineProcess | None = None
        self._rank = 0
        self._is_ready = False
        self._restarts = 0

    @property
    def pid(self) -> int | None:
        """The number of the engine's process; None if there is none."""
        return self._process.pid if self._process else None

    def submit(self, message: Mapping[str, Any], prompts: int, rank: int) -> tuple[int, Future[Texts]]:
        """Send a call to the engine.

        Args:
            message: the call, see :mod:`dsrl_vllm.engine`.
            prompts: the number of its prompts.
            rank: the rank of its adapter; 0 if it has none.

        Returns:
            The number of the call, for :meth:`cancel`, and its texts.
        """
        number, call = next(self._numbers), _Call(message, [None] * prompts)
        with self._lock:
            self._calls[number] = call
            if self._process is not None and rank <= self._rank:
                self._send(number, call)
                return number, call.future
            # An engine has room for adapters from its start on.
            old, self._process = self._process, None
            self._rank = max(rank, self._rank)
        if old is not None:
            old.stop()
        self._restart()
        return number, call.future

    def cancel(self, number: int) -> None:
        """Forget a call; the engine stops working on it."""
        with self._lock:
            if self._calls.pop(number, None) is not None and self._process is not None:
                self._process.send({"cancel": number})

    def close(self) -> None:
        """End the engine's process, which gives all its memory back. A later call starts another one."""
        with self._lock:
            process, self._process = self._process, None
            calls, self._calls = self._calls, {}
            self._rank = 0
        if process is not None:
            process.stop()
        for call in calls.values():
            call.future.cancel()

    def _send(self, number: int, call: _Call) -> None:
        assert self._process is not None
        done = [i for i, texts in enumerate(call.texts) if texts is not None]
        self._process.send({**call.message, "id": number, "done": done})

    def _restart(self) -> None:
        with self._lock:
            self._is_ready = False
            try:
                self._process = self._start(self._rank, self._receive, self._handle_end)
            except (OSError, DsrlError) as error:
                is_own = isinstance(error, DsrlError)
                self._fail(error if is_own else DsrlError(f"the engine's process cannot be started: {error}"))
                return
            for number, call in list(self._calls.items()):
                self._send(number, call)

    def _receive(self, process: EngineProcess, message: dict[str, Any]) -> None:
        if "warning" in message:
            log.warning("%s", message["warning"])
            return
        with self._lock:
            if process is not self._process:
                return
            if "ready" in message:
                self._is_ready = True
                return
            call = self._calls.get(message["id"])
            if call is None:
                return  # it was cancelled
            if "error" in message:
                del self._calls[message["id"]]
                kind = DataError if message["kind"] == "data" else DsrlError
                _set(call.future, error=kind(message["error"]))
                return
            call.texts[message["prompt"]] = message["texts"]
            if None not in call.texts:
                del self._calls[message["id"]]
                _set(call.future, value=[texts for texts in call.texts if texts is not None])

    def _handle_end(self, process: EngineProcess) -> None:
        with self._lock:
            if process is not self._process:
                return  # it was told to end
            self._process = None
            end = process.describe_end()
            if not self._is_ready:
                self._fail(DsrlError(f"vLLM could not start: its process {end}"))
            elif self._restarts:
                advice = (
                    "Give it less to do at once, for example --sampler-option max_sequences=64, or use --sampler "
                    "transformers; the same command goes on where the run ended"
                )
                self._fail(DsrlError(f"the engine of vLLM died again: its process {end}\n{advice}"))
            else:
                self._restarts += 1
                log.warning("The engine of vLLM died and is started again; its process %s", end)
                self._restart()

    def _fail(self, error: Exception) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            _set(call.future, error=error)


def _set(future: Future[Texts], value: Texts | None = None, error: Exception | None = None) -> None:
    with contextlib.suppress(InvalidStateError):  # it was cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value or [])


def make_message(
    prompts: Sequence[tuple[str, str, bool]],
    n: int,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int,
    first: int,
    adapter: str | None,
) -> dict[str, Any]:
    """Return the message of a call; the arguments are those of the hook ``sample``."""
    return {
        "prompts": list(prompts),
        "n": n,
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "seed": seed,
        "first": first,
        "adapter": adapter,
    }
