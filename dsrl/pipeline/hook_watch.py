"""Ends a hook of a task that does not return: an endless loop, or a regular expression that takes hours.

A thread looks about once a second at the calls under way (:mod:`dsrl.plugins.hook_calls`). A call that lasts longer than
``--hook-timeout`` is stopped by an exception in its thread, which becomes a PluginError. If its thread does not come back to
Python code for another while, the command line ends the process; in another program the user is told.

A regular expression keeps Python's lock, so that no other thread can work. If the main thread is in it, a timer that counts
the time of the processor sends a signal: its handler lets the watch look, and can end the expression, as Ctrl-C can.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dsrl.keys import mask
from dsrl.plugins.hook_calls import Call, list_calls, stop

#: The file in the run's folder for the arguments of a call that was stopped.
CALL_FILE = "hook-call.json"
#: Seconds that a call may last after it was told to stop.
GRACE = 10.0
_SECONDS_BETWEEN_WARNINGS = 60.0
#: Seconds between two looks; a short limit is looked at more often.
_INTERVAL = 1.0
_LOOKS_PER_LIMIT = 10
#: After so many intervals without a look, the timer sends its signal.
_MISSED_LOOKS = 5
#: Seconds for which the handler of the signal gives way to the watch.
_PAUSE = 0.05
#: Most characters of an argument in the file, and in the sentence.
_LONGEST_ARGUMENT = 1_000_000
_LONGEST_EXCERPT = 100

#: What to do about a call that cannot be stopped; None: tell the user.
_end_process: Callable[[str], None] | None = None


@contextmanager
def end_process_by(function: Callable[[str], None]) -> Iterator[None]:
    """For the length of a block, end the process when a call cannot be stopped.

    Args:
        function: is given the sentence for the user, and ends the process.
    """
    global _end_process
    before, _end_process = _end_process, function
    try:
        yield
    finally:
        _end_process = before


@contextmanager
def watch_hooks(limit: float, folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Watch the hooks of tasks in all threads for the length of a block.

    Args:
        limit: seconds that a call may last; 0: any time.
        folder: the folder of the run; if it exists, the arguments of a stopped call are written to it.
        tell: tells the user something.
    """
    if not limit:
        yield
        return
    watch = _Watch(limit, folder, tell)
    thread = threading.Thread(target=watch.run, name="dsrl-hook-watch", daemon=True)
    with _handle_timer(watch):
        thread.start()
        try:
            yield
        finally:
            watch.end.set()
            thread.join()


@contextmanager
def _handle_timer(watch: _Watch) -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    # Somebody else may use the timer.
    if not is_main or not hasattr(signal, "setitimer") or signal.getsignal(signal.SIGVTALRM) is not signal.SIG_DFL:
        yield
        return

    def give_way(signum: int, frame: FrameType | None) -> None:
        if watch.is_late():
            time.sleep(_PAUSE)

    signal.signal(signal.SIGVTALRM, give_way)
    watch.has_timer = True
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)


@dataclass(slots=True)
class _Observed:
    """A call that was seen under way.

    Attributes:
        call: the call.
        seconds: how long it has been seen.
        sentence: what the user is told of it; empty before it is stopped.
        next_step: the seconds after which it is given up, or the user is warned again.
    """

    call: Call
    seconds: float
    sentence: str
    next_step: float


class _Watch:
    """Watches the calls under way in a thread of its own.

    Attributes:
        end: is set when the watch must end.
        has_timer: whether the main thread handles the signal of the timer.
    """

    def __init__(self, limit: float, folder: Path, tell: Callable[[str], None]) -> None:
        self.end = threading.Event()
        self.has_timer = False
        self._limit, self._folder, self._tell = limit, folder, tell
        self._interval = min(_INTERVAL, limit / _LOOKS_PER_LIMIT)
        self._patience = _MISSED_LOOKS * self._interval
        self._observed: dict[int, _Observed] = {}
        self._last_look = time.monotonic()

    def run(self) -> None:
        """Look again and again, until the watch must end."""
        is_command = _end_process is not None
        while True:
            if self.has_timer:
                signal.setitimer(signal.ITIMER_VIRTUAL, self._patience, self._patience)
            if is_command:
                # If C code never lets this thread work again, at least the user reads where it is.
                faulthandler.dump_traceback_later(self._limit + GRACE, file=2)
            if self.end.wait(self._interval):
                break
            self._look()
        if is_command:
            faulthandler.cancel_dump_traceback_later()

    def is_late(self) -> bool:
        """Return whether the watch should have looked by now."""
        return time.monotonic() - self._last_look > 2 * self._interval

    def _look(self) -> None:
        """Look at the calls under way once, and stop those that last too long."""
        now = time.monotonic()
        # A process that was suspended (Ctrl-Z, a sleeping laptop) must not count the time in which it could not work.
        passed = min(now - self._last_look, self._patience)
        self._last_look = now
        observed = {}
        overdue: dict[int, _Observed] = {}  # thread -> its innermost call that lasts too long
        for thread, call in list_calls():
            seen = self._observed.get(id(call)) or _Observed(call, -passed, "", self._limit + GRACE)
            seen.seconds += passed
            observed[id(call)] = seen
            if seen.seconds >= self._limit:
                overdue.setdefault(thread, seen)
        self._observed = observed  # it keeps the calls, so that no other call gets the same id
        for thread, seen in overdue.items():
            self._stop(thread, seen)

    def _stop(self, thread: int, seen: _Observed) -> None:
        seen.sentence = seen.sentence or self._describe(thread, seen.call)
        if seen.seconds >= seen.next_step:
            seen.next_step = seen.seconds + _SECONDS_BETWEEN_WARNINGS
            if _end_process is not None:
                _end_process(seen.sentence)
            self._tell(
                f"{seen.sentence}. The hook cannot be stopped and is still at work; you may have to end this program"
            )
        stop(thread, seen.call, seen.sentence)
        if self.has_timer and thread == threading.main_thread().ident:
            signal.pthread_kill(thread, signal.SIGVTALRM)  # it may be waiting, or be in C code that looks for signals

    def _describe(self, thread: int, call: Call) -> str:
        (hook, source), arguments, _ = call
        place = sys._current_frames().get(thread) or sys._getframe()
        blame = source.blame(hook.name, f"has not returned for {self._limit:g} s", place)
        text = str(arguments.get(hook.arguments[0], ""))
        excerpt = mask(text[:_LONGEST_EXCERPT]) + ("..." if len(text) > _LONGEST_EXCERPT else "")
        file = self._write(hook.name, source.title, arguments)
        written = f" (all of it is in {file})" if file else ""
        return (
            f"{blame}; it was given a text that begins with {excerpt!r}{written}. Correct the hook, or give --hook-timeout "
            "more seconds; the same command then continues the run"
        )

    def _write(self, hook: str, title: str, arguments: dict[str, Any]) -> Path | None:
        """Write the arguments of a call to the folder of the run; return None if that is not possible."""
        path = self._folder / CALL_FILE
        texts = {name: str(value)[:_LONGEST_ARGUMENT] for name, value in arguments.items()}
        with suppress(OSError):
            content = {"plugin": title, "hook": hook, "arguments": texts}
            path.write_text(json.dumps(content, indent=2), encoding="utf-8")
            return path
        return None
