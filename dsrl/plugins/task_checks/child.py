"""A function in a child process, whose reports come one by one, each within a time limit."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

#: Bytes of memory that the child may use for data.
MEMORY_LIMIT = 8 * 2**30
#: Seconds for the child to start, and to write where it hangs.
_START_LIMIT = 120.0
_STACK_SECONDS = 2.0
_END = "dsrl: the function has ended"

Send = Callable[[Any], None]


class ChildStopped(Exception):
    """The child process did not end by itself.

    Attributes:
        reason: e.g. ``did not return within 10 s`` or ``ended its process with exit code 3``.
        stack: where it was, as ``faulthandler`` writes it: the innermost frame first; empty if it is not known.
    """

    def __init__(self, reason: str, stack: str = "") -> None:
        super().__init__(reason)
        self.reason, self.stack = reason, stack


def stream_from_child(
    function: Callable[..., None], arguments: tuple[Any, ...], get_limit: Callable[[Any], float]
) -> Iterator[Any]:
    """Run ``function(send, *arguments)`` in a spawned process and yield what it sends.

    The process is killed, with all processes that it has started, when it takes too long, and when the iterator is closed.

    Args:
        function: a function of a module, which the child imports.
        arguments: values that can be pickled.
        get_limit: returns for a value that came the seconds in which the next one must come.

    Raises:
        ChildStopped: the next value did not come in time, or the process ended before the function did.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        stack = Path(folder) / "stack"
        process = context.Process(target=_run, args=(sender, str(stack), function, arguments))
        process.start()
        sender.close()
        limit = _START_LIMIT
        try:
            while receiver.poll(limit):
                try:
                    value = receiver.recv()
                except (EOFError, OSError):
                    process.join()
                    raise ChildStopped(f"ended its process with exit code {process.exitcode}") from None
                if value == _END:
                    return
                limit = get_limit(value)
                yield value
            raise ChildStopped(f"did not return within {limit:g} s", _ask_for_stack(process.pid, stack))
        finally:
            _kill(process)
            receiver.close()


def _run(sender: Connection, stack: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.setsid()  # a group of its own, so that its children can be killed too, and Ctrl-C reaches only the parent
    _limit_memory()
    with open(stack, "wb") as file:
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)
        with suppress(BrokenPipeError):  # the parent has gone
            function(sender.send, *arguments)
            sender.send(_END)


def _limit_memory() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
    with suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _ask_for_stack(pid: int | None, stack: Path) -> str:
    """Let a hanging process write its stack; the signal handler works also while a function in C is at work."""
    if pid is None or not stack.exists():
        return ""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + _STACK_SECONDS
    text = ""
    while time.monotonic() < until and (not text or text != stack.read_text(errors="replace")):
        text = stack.read_text(errors="replace")
        time.sleep(0.05)
    return text


def _kill(process: Any) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    process.close()
