"""SIGINT (Ctrl-C), SIGTERM and SIGHUP stop a command in the same way.

Between coroutines the first signal raises :class:`Interrupted`. While :func:`run` runs a coroutine, the first signal cancels
it, so that it can wait for calls that are paid for, and :class:`Interrupted` is raised when it has ended. A second signal
raises at once, wherever the program is; from then on signals have their default effect.

A signal that was ignored when the program started (SIGHUP under ``nohup``, SIGINT of a background job of a shell script)
stays ignored; the others work all the same.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal stopped the command.

    Attributes:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def exit_code(stop: KeyboardInterrupt) -> int:
    """Give the exit code of a command that was stopped: 128 and the number of the signal."""
    return 128 + (stop.signum if isinstance(stop, Interrupted) else signal.SIGINT)


class _Handler:
    """Handles the signals of one command, in the process that started it."""

    def __init__(self) -> None:
        self.signum = 0  # of the first signal; 0: none came yet
        self.before: dict[int, Any] = {}
        self.restored = False  # from the second signal on, signals have their default effect
        self.hook: Callable[[Any], Any] = sys.unraisablehook
        self._process = os.getpid()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked: signals have their usual effect there
            signal.signal(signum, self.before.get(signum, signal.SIG_DFL))
            os.kill(os.getpid(), signum)
            return
        if self.signum:
            self.restore()
            raise Interrupted(signum)
        self.signum = signum
        if self._running is None or self._running[1].done():
            raise Interrupted(signum)
        loop, task = self._running
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)  # the loop may be waiting for its sockets

    def deliver_again(self, unraisable: Any) -> None:
        """Send a signal again that Python dropped: a finalizer or the callback of a weak reference cannot raise."""
        stop = unraisable.exc_value
        if not isinstance(stop, Interrupted):
            self.hook(unraisable)
            return
        if not self.restored:
            self.signum = 0
        threading.Timer(0.01, os.kill, (os.getpid(), stop.signum)).start()  # not before this hook has ended

    def restore(self) -> None:
        self.restored = True
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        async def stoppable() -> T:
            task = asyncio.current_task()
            assert task is not None
            self._running = asyncio.get_running_loop(), task
            return await main

        try:
            with asyncio.Runner() as runner:
                result = runner.run(stoppable())
        except asyncio.CancelledError:
            if self.signum:
                raise Interrupted(self.signum) from None
            raise
        finally:
            self._running = None
        if self.signum:  # the coroutine ended by itself before it saw that it was cancelled
            raise Interrupted(self.signum)
        return result


_handler: _Handler | None = None


@contextmanager
def handled() -> Iterator[None]:
    """Handle the signals for one command. Outside the main thread, and inside another such block, this does nothing."""
    global _handler
    if _handler is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    for signum in _SIGNALS:
        before = signal.getsignal(signum)
        if before not in (signal.SIG_IGN, None):
            handler.before[signum] = before
            signal.signal(signum, handler)
    _handler = handler
    sys.unraisablehook = handler.deliver_again
    try:
        yield
    finally:
        _handler = None
        sys.unraisablehook = handler.hook
        handler.restore()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as :func:`asyncio.run` does; the signals that :func:`handled` handles cancel it.

    Raises:
        Interrupted: a signal stopped it.
    """
    if _handler is None or threading.current_thread() is not threading.main_thread():
        return asyncio.run(main)
    return _handler.run(main)
