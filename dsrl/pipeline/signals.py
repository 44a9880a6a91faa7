"""SIGINT (Ctrl-C), SIGTERM and SIGHUP stop a command in the same way.

Outside of coroutines, the first signal raises :class:`Interrupted`. While :func:`run` runs a coroutine, the first signal
cancels it, so that it can wait for calls in flight, which are billed anyway; :class:`Interrupted` is raised when it has
ended. A second signal raises at once, wherever the program is. After it, signals have their default effect.

In a notebook an event loop is already running, so :func:`call` does the work in a thread of its own. Python runs signal
handlers in the main thread; the first signal is passed on to the thread that works.

A signal that was ignored when the program started (SIGHUP under ``nohup``, SIGINT of a background job of a shell script)
stays ignored. The other signals are handled.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
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
    """Return the exit code of a command that a signal stopped: 128 + the number of the signal."""
    return 128 + (stop.signum if isinstance(stop, Interrupted) else signal.SIGINT)


class _Handler:
    """Handles the signals of one command, in the process that started it."""

    def __init__(self) -> None:
        self.signum = 0  # the number of the first signal; 0 before it
        self.previous: dict[int, Any] = {}  # signal -> its handler before this one
        self.is_restored = False  # True after the second signal: signals have their default effect
        self.previous_hook: Callable[[Any], Any] = sys.unraisablehook
        self.worker: threading.Thread | None = None  # the thread that works; None: the main thread
        self._process = os.getpid()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # in a forked worker, signals have their usual effect
            signal.signal(signum, self.previous.get(signum, signal.SIG_DFL))
            os.kill(os.getpid(), signum)
            return
        if self.signum:
            self.restore()
            if self.worker is not None:
                _interrupt(self.worker)
            raise Interrupted(signum)
        self.signum = signum
        if self._running is not None and not self._running[1].done():
            loop, task = self._running
            # The loop may be waiting for its sockets, and it may run in another thread.
            loop.call_soon_threadsafe(task.cancel)
        elif self.worker is not None:
            _interrupt(self.worker)
        else:
            raise Interrupted(signum)

    def deliver_again(self, unraisable: Any) -> None:
        """Send a signal again that Python dropped: finalizers and callbacks of weak references cannot raise."""
        stop = unraisable.exc_value
        if not isinstance(stop, Interrupted):
            self.previous_hook(unraisable)
            return
        if not self.is_restored:
            self.signum = 0
        threading.Timer(0.01, os.kill, (os.getpid(), stop.signum)).start()  # the delay lets this hook end first

    def restore(self) -> None:
        """Restore the handlers that were there before."""
        self.is_restored = True
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that the first signal cancels."""

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
        if self.signum:  # the coroutine ended before the cancellation reached it
            raise Interrupted(self.signum)
        return result


_handler: _Handler | None = None


@contextmanager
def handle_signals() -> Iterator[None]:
    """Handle the signals while a command runs. Outside the main thread, and inside another such block, this does nothing."""
    global _handler
    if _handler is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    for signum in _SIGNALS:
        previous = signal.getsignal(signum)
        if previous not in (signal.SIG_IGN, None):
            handler.previous[signum] = previous
            signal.signal(signum, handler)
    _handler = handler
    sys.unraisablehook = handler.deliver_again
    try:
        yield
    finally:
        _handler = None
        sys.unraisablehook = handler.previous_hook
        handler.restore()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as :func:`asyncio.run` does. Inside :func:`handle_signals`, a signal cancels it.

    Raises:
        Interrupted: a signal stopped it.
    """
    if _handler is None or threading.current_thread() is not (_handler.worker or threading.main_thread()):
        return asyncio.run(main)
    return _handler.run(main)


def call(function: Callable[[], T]) -> T:
    """Call a function that calls :func:`run`, also where an event loop is already running.

    Where one is running, the function is called in a thread of its own, because a thread can run one event loop only. The
    running loop is blocked until the function returns.

    Raises:
        Interrupted: a signal stopped the function. After a second signal, the thread may still be at work.
    """
    with handle_signals():
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return function()
        return _call_in_thread(function)


def _call_in_thread(function: Callable[[], T]) -> T:
    outcome: Future[T] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            outcome.set_exception(error)

    thread = threading.Thread(target=work, name="dsrl", daemon=True)
    handler = _handler if threading.current_thread() is threading.main_thread() else None
    if handler is not None:
        handler.worker = thread
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)  # a signal handler runs between two waits
    finally:
        if handler is not None:
            handler.worker = None
    try:
        result = outcome.result()
    except KeyboardInterrupt as stop:
        if handler is None or not handler.signum or isinstance(stop, Interrupted):
            raise
        interrupted = Interrupted(handler.signum)
        for note in getattr(stop, "__notes__", []):
            interrupted.add_note(note)
        raise interrupted from None
    if handler is not None and handler.signum:  # the function ended before the signal reached it
        raise Interrupted(handler.signum)
    return result


def _interrupt(thread: threading.Thread) -> None:
    """Raise a KeyboardInterrupt in another thread, as soon as it is back in Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt))
