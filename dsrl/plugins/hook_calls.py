"""The calls of hooks that read a model's text, so that a watch can see one that does not return, and stop it.

A call is shown by one entry in a table: rewards are computed tens of thousands of times a second, so nothing here reads a
clock. The watch (:mod:`dsrl.pipeline.hook_watch`) sees the same entry again and again. It then raises :class:`HookStopped`
in the thread of the call, and the call raises a :class:`dsrl.errors.PluginError` with the sentence of the watch.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any, NamedTuple, TypeAlias

from dsrl.errors import PluginError
from dsrl.plugins.guard import Source
from dsrl.plugins.specs import Hook

#: The hooks of tasks that read what a model, a teacher or a data set wrote.
WATCHED = frozenset({"process_label", "process_prediction", "eval", "reward", "procedural_solve"})


class HookStopped(BaseException):
    """Ends a hook that has not returned in time. It is no ``Exception``, so that a hook that catches those ends too."""


class WatchedHook(NamedTuple):
    """A hook of a bound plugin, and where the code of the plugin is."""

    hook: Hook
    source: Source


#: A call under way: the hook, the arguments, and the call from whose hook it was made. Each call has a tuple of its own.
Call: TypeAlias = tuple[WatchedHook, dict[str, Any], "Call | None"]

#: Thread -> the innermost call in it.
_calls: dict[int, Call | None] = {}
#: Thread -> the sentence for the user, from the moment when its call is told to stop until the call ends.
_stops: dict[int, str] = {}
_lock = threading.Lock()


def show_calls(caller: Callable[..., Any], hook: Hook, source: Source) -> Callable[..., Any]:
    """Return a function that calls a hook and shows the call while it is under way.

    Args:
        caller: takes all arguments of the hook.
        hook: the hook; its optional arguments may be left out.
        source: where the code of the plugin is.
    """
    watched, defaults = WatchedHook(hook, source), hook.optional_arguments

    def call(**arguments: Any) -> Any:
        thread = get_ident()
        outer = _calls.get(thread)
        _calls[thread] = (watched, arguments, outer)
        try:
            return caller(**{**defaults, **arguments})
        finally:
            _calls[thread] = outer
            if _stops:  # read after the entry is gone, see `stop`
                try:
                    _end_stopped(thread, outer)
                except HookStopped:  # it has arrived as late as this
                    _end_stopped(thread, outer)

    return call


def list_calls() -> list[tuple[int, Call]]:
    """List the calls under way as pairs of thread and call, those of a thread together and the innermost first."""
    calls = []
    for thread, call in _calls.copy().items():
        while call is not None:
            calls.append((thread, call))
            call = call[2]
    return calls


def stop(thread: int, call: Call, sentence: str) -> None:
    """Stop a call if it is still under way: it raises a PluginError with this sentence.

    Its hook ends as soon as the thread is back in Python code.
    """
    with _lock:
        # First the sentence, then the look: a call removes its entry first and then looks for a sentence. So either it is
        # not stopped, or it finds the sentence, waits for the lock and takes the exception back.
        was_stopped = thread in _stops
        _stops.setdefault(thread, sentence)
        if _is_under_way(thread, call):
            _raise_in_thread(thread, HookStopped)
        elif not was_stopped:
            _stops.pop(thread, None)


def _is_under_way(thread: int, call: Call) -> bool:
    return any(other is call for number, other in list_calls() if number == thread)


def _end_stopped(thread: int, outer: Call | None) -> None:
    """Raise the error of a call that was told to stop, also if its hook has returned after all."""
    while thread in _stops:
        try:
            with _lock:
                _raise_in_thread(thread, None)
                sentence = _stops[thread]
                if outer is None:
                    del _stops[thread]
            break
        except HookStopped:
            continue
    else:
        return
    if outer is not None:
        raise HookStopped  # not an Exception, which the outer hook could catch to go on with a wrong result
    raise PluginError(sentence)


def _raise_in_thread(thread: int, exception: type[BaseException] | None) -> None:
    """Raise an exception in a thread as soon as it is back in Python code; None: take one back that is not raised yet."""
    value = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), value)
