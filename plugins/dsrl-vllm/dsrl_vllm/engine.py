"""The engine's process. It reads calls from stdin as lines of JSON, and writes texts to a descriptor of its own.

What it reads::

    {"id": 7, "prompts": [[text, system, is_chat], ...], "n": 64, "temperature": 1.0, "top_p": 1.0, "max_tokens": 512,
     "seed": 3, "first": 0, "adapter": null, "done": []}                            a call; ``done``: prompts to leave out
    {"cancel": 7}

What it writes::

    {"ready": 2048}                                 the engine works; the length of its context
    {"id": 7, "prompt": 0, "texts": [...]}          as soon as a prompt is finished
    {"id": 7, "error": "...", "kind": "data"}       the call cannot be done
    {"warning": "..."}

stdout and stderr belong to vLLM. If stdin is closed, the process kills its process group and so itself.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl import DataError, DsrlError
from dsrl_vllm.work import Backlog, EngineRequest, make_prompts, make_requests

if TYPE_CHECKING:
    from dsrl_transformers.text_codec import TextCodec


def main(descriptor: int, settings: Mapping[str, Any]) -> None:
    """Serve calls until stdin is closed.

    Args:
        descriptor: where answers are written to.
        settings: ``model``, ``engine`` (arguments of vLLM's engine), ``max_sequences``.
    """
    try:
        _serve(descriptor, settings)
    except BaseException:  # noqa: BLE001 - the parent shows the last lines
        traceback.print_exc()
        sys.stderr.flush()
    # Not by the interpreter, which would wait for threads of vLLM and for the one that reads stdin.
    os._exit(1)


def _serve(descriptor: int, settings: Mapping[str, Any]) -> None:
    results = os.fdopen(descriptor, "w", encoding="utf-8")
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(inbox,), name="calls", daemon=True).start()

    def send(**message: Any) -> None:
        results.write(json.dumps(message) + "\n")
        results.flush()

    logging.getLogger("dsrl_transformers").addHandler(_Forwarder(send))
    from dsrl_transformers.text_codec import load_codec

    from dsrl_vllm.vllm_engine import VllmEngine

    codec = load_codec(settings["model"])
    engine = VllmEngine(settings["model"], settings["engine"])
    engine.stop, codec.context = sorted(codec.stop), engine.context
    send(ready=engine.context)
    EngineLoop(engine, codec, settings["max_sequences"], inbox, send).run()


class EngineLoop:
    """Gives requests to the engine and steps it, call by call and all calls at once.

    Args:
        engine: the engine.
        codec: turns prompts into tokens, and tokens into texts.
        sequences: attempts that the engine works on at once.
        inbox: the messages of the parent.
        send: writes a message to the parent.
    """

    def __init__(self, engine: Any, codec: TextCodec, sequences: int, inbox: Any, send: Any) -> None:
        self._engine, self._codec, self._inbox, self._send = engine, codec, inbox, send
        self._backlog = Backlog(sequences)
        self._left: dict[int, int] = {}
        self._adapters: dict[int, int] = {}
        self._adapter_count = 0

    def run(self) -> None:
        """Work for ever."""
        while True:
            self.advance()

    def advance(self) -> None:
        """Take the messages that have come, or wait for one if there is no work, and step the engine."""
        while not self._backlog or not self._inbox.empty():
            message = self._inbox.get()
            if "cancel" in message:
                self._engine.abort(self._backlog.cancel(message["cancel"]))
                self._forget(message["cancel"])
            else:
                self._begin(message)
        for request in self._backlog.take():
            try:
                self._engine.add(request)
            except ValueError as error:  # vLLM refuses the request
                self._engine.abort(self._backlog.cancel(request.call))
                self._forget(request.call)
                self._send(id=request.call, error=f"vLLM refuses a prompt: {_get_first_line(error)}", kind="other")
                return  # the backlog has changed
        for name, sequences in self._engine.step():
            finished = self._backlog.finish(name)
            if finished is not None:
                self._finish(finished, sequences)

    def _begin(self, message: dict[str, Any]) -> None:
        call = message["id"]
        try:
            prompts = [self._codec.encode(prompt) for prompt in make_prompts(message)]
            tokens, max_tokens = self._codec.cut_to_context(prompts, message["max_tokens"])
            if message["adapter"] is not None:
                self._adapter_count += 1
                self._adapters[call] = self._adapter_count
                self._engine.add_adapter(self._adapter_count, Path(message["adapter"]))
        except DsrlError as error:
            self._forget(call)
            self._send(id=call, error=str(error), kind="data" if isinstance(error, DataError) else "other")
            return
        requests = list(make_requests(message, tokens, max_tokens, self._adapters.get(call, 0)))
        self._left[call] = len(requests)
        self._backlog.add(requests)

    def _finish(self, request: EngineRequest, sequences: list[list[int]]) -> None:
        texts = [self._codec.decode_text(ids) for ids in sequences] * request.copies
        self._left[request.call] -= 1
        if not self._left[request.call]:
            self._forget(request.call)
        self._send(id=request.call, prompt=request.prompt, texts=texts)

    def _forget(self, call: int) -> None:
        self._left.pop(call, None)
        adapter = self._adapters.pop(call, 0)
        if adapter:
            self._engine.remove_adapter(adapter)


class _Forwarder(logging.Handler):
    """Sends warnings to the parent, whose user reads them."""

    def __init__(self, send: Any) -> None:
        super().__init__(logging.WARNING)
        self._send_message = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send_message(warning=record.getMessage())


def _read_calls(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        inbox.put(json.loads(line))
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _get_first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
