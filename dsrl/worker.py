"""A child process for work that may hang, use up the memory or crash.

    worker = Worker("my_package.checks:is_equal", seconds=1, memory_mb=256)
    worker.call("1/2", "0.5")

The child is started at the first call and answers one call after the other, so a call costs a round trip through a pipe and
not a new process. When a call reaches a limit, the child is killed, and the next call starts another one.

The child is a fresh Python process that gets ``sys.path`` of its parent and imports the function by its name. It can
therefore be used in any thread, in a forked or spawned process and in a daemonic one. It needs a POSIX system; the limit on
memory holds where the system enforces ``RLIMIT_AS``, as Linux does.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, NoReturn, ParamSpec, TypeVar

from dsrl.errors import DsrlError, PluginError, SettingsError

P = ParamSpec("P")
R = TypeVar("R")
Reason = Literal["time", "memory", "crash", "exception"]

#: Seconds that a child may take to start and to import the function.
START_SECONDS: Final = 120.0
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dsrl.worker import _serve; _serve(sys.argv[2], *json.loads(sys.argv[3]))"
)
#: A message is its status (one byte), its length (8 bytes) and its content.
_HEADER = struct.Struct("!cQ")
_REQUEST, _READY, _VALUE, _EXCEPTION, _MEMORY = b"q", b"r", b"v", b"e", b"m"
_LONGEST_TEXT = 1000


class WorkerError(DsrlError):
    """A call of a :class:`Worker` brought no value.

    Attributes:
        reason: ``time``: it reached the limit on time. ``memory``: it reached the limit on memory. ``crash``: its process
            ended. ``exception``: the function raised an exception, or returned what cannot be pickled; the text names it.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type[WorkerError], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class Worker(Generic[P, R]):
    """Calls a function in a child process with a limit on time and memory.

    Calls from several threads are answered one after the other.

    Args:
        function: a function of a module, or its name ``module:function``. With a name, only the child imports the module, so
            the time of a long import is not part of a call. Arguments and results are pickled.
        seconds: CPU time that a call may take.
        wall_seconds: time by the clock that a call may take. Default: 4 times ``seconds``, so that a busy machine does not
            change what the function returns.
        memory_mb: mebibytes of memory that the child may take after the import of the function.

    Raises:
        PluginError: the function cannot be imported by its name: it is a lambda, a local function, or in ``__main__``.
        SettingsError: a limit is not above 0, or the system is Windows.
    """

    def __init__(
        self, function: Callable[P, R] | str, *, seconds: float, memory_mb: int = 512, wall_seconds: float | None = None
    ) -> None:
        if sys.platform == "win32":
            raise SettingsError("dsrl.Worker needs a POSIX system such as Linux or macOS; this is Windows")
        self.name = function if isinstance(function, str) else _get_name(function)
        self.seconds, self.memory_mb = float(seconds), int(memory_mb)
        self.wall_seconds = 4 * self.seconds if wall_seconds is None else float(wall_seconds)
        if min(self.seconds, self.wall_seconds, self.memory_mb) <= 0:
            raise SettingsError(f"the limits of the worker for {self.name} must be above 0")
        self._lock = threading.Lock()
        self._children: list[_Child] = []  # none or one
        # It also runs when the interpreter ends.
        self._finalizer = weakref.finalize(self, _end, self._children)
        _WORKERS.add(self)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function returns.

        Raises:
            WorkerError: the call brought no value; the attribute ``reason`` says why.
            PluginError: the child cannot import the function.
        """
        request = pickle.dumps((args, kwargs), protocol=pickle.HIGHEST_PROTOCOL)
        with self._lock:
            child = self._get_child()
            try:
                status, content = child.exchange(request, time.monotonic() + self.wall_seconds)
                if status == _MEMORY:
                    raise WorkerError("memory", f"{self.name} needs more than {self.memory_mb} MiB of memory")
            except _ChildEnded as ended:
                raise self._explain(ended.code) from None
            except TimeoutError:
                raise WorkerError("time", f"{self.name} did not return within {self.wall_seconds:g} s") from None
            finally:
                # Also after Ctrl-C: a child whose answer was not read must not answer the next call.
                if not child.has_answered:
                    self._children.clear()
                    child.kill()
        if status == _EXCEPTION:
            raise WorkerError("exception", f"{self.name} failed: {content.decode('utf-8', 'replace')}")
        try:
            return pickle.loads(content)  # type: ignore[no-any-return]
        except Exception as error:
            raise WorkerError("exception", f"the result of {self.name} cannot be read: {_describe(error)}") from error

    def close(self) -> None:
        """End the child. The next call starts another one."""
        with self._lock:
            _end(self._children)

    def _get_child(self) -> _Child:
        if self._children and self._children[0].process.poll() is not None:
            # Somebody ended it while it waited: no call is lost, so a new one takes its place.
            _end(self._children)
        if not self._children:
            child = _Child(self.name, self.seconds, self.wall_seconds, self.memory_mb)
            try:
                child.wait_until_ready()
            except BaseException:
                child.kill()
                raise
            self._children.append(child)
        return self._children[0]

    def _explain(self, code: int) -> WorkerError:
        if -code in (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU):
            return WorkerError("time", f"{self.name} took more than {self.seconds:g} s of CPU time")
        if code < 0:
            return WorkerError("crash", f"{self.name} crashed: its process was ended by {_name_signal(-code)}")
        return WorkerError("crash", f"{self.name} ended its process with exit code {code}")


class _ChildEnded(Exception):
    """The child has ended; ``code`` is its exit code, or the negative number of the signal that ended it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Child:
    """A child process, its pipes, and the process that owns it."""

    def __init__(self, name: str, seconds: float, wall_seconds: float, memory_mb: int) -> None:
        self.name, self.owner = name, os.getpid()
        self.longest_reply = memory_mb * 2**20
        self.has_answered = False
        command = [sys.executable, "-c", _BOOTSTRAP, json.dumps(sys.path), name]
        self.process = subprocess.Popen(
            [*command, json.dumps([seconds, wall_seconds, memory_mb])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal reaches only the parent; a kill reaches grandchildren
        )
        assert self.process.stdin
        assert self.process.stdout
        self._requests, self._replies = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)

    def wait_until_ready(self) -> None:
        try:
            status, content = self._receive(time.monotonic() + START_SECONDS)
        except TimeoutError:
            raise PluginError(f"a worker for {self.name} did not start within {START_SECONDS:g} s") from None
        except _ChildEnded as ended:
            raise PluginError(
                f"a worker for {self.name} cannot start: its process ended with code {ended.code}"
            ) from None
        if status != _READY:
            raise PluginError(f"a worker cannot import {self.name}: {content.decode('utf-8', 'replace')}")

    def exchange(self, request: bytes, deadline: float) -> tuple[bytes, bytes]:
        """Send a request and return status and content of the reply; ``has_answered`` says whether the child can go on."""
        self.has_answered = False
        self._send(_HEADER.pack(_REQUEST, len(request)) + request, deadline)
        reply = self._receive(deadline)
        self.has_answered = reply[0] != _MEMORY
        return reply

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BlockingIOError:
                _wait(self._requests, select.POLLOUT, deadline)
            except BrokenPipeError:
                raise self._ended() from None

    def _receive(self, deadline: float) -> tuple[bytes, bytes]:
        status, length = _HEADER.unpack(self._read(_HEADER.size, deadline))
        if length > self.longest_reply:
            return _MEMORY, b""
        return status, self._read(length, deadline)

    def _read(self, length: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            _wait(self._replies, select.POLLIN, deadline)
            with contextlib.suppress(BlockingIOError):
                piece = os.read(self._replies, min(length - len(data), 2**20))
                if not piece:
                    raise self._ended()
                data += piece
        return bytes(data)

    def _ended(self) -> _ChildEnded:
        return _ChildEnded(self.kill())

    def kill(self) -> int:
        """Kill the child and the processes that it started, wait for its end, and return its exit code."""
        self.send_kill()
        self._close_pipes()
        return self.process.wait()

    def send_kill(self) -> None:
        """Kill the child and the processes that it started; a call that waits for it finds its end."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Leave the child to its owner, of which this process is a forked copy."""
        self._close_pipes()
        self.process.returncode = 0  # otherwise Popen would warn that it still runs

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _get_name(function: Callable[..., Any]) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or module == "__main__" or not name or "<" in name:
        raise PluginError(
            f"a worker cannot import {function!r} by its name; define the function at the top of a module that is not "
            "__main__"
        )
    return f"{module}:{name}"


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()  # select.select cannot watch descriptors from 1024 on
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _describe(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the exception of a stranger
        text = "(no text)"
    return f"{type(error).__name__}: {text}"[:_LONGEST_TEXT]


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(children: list[_Child]) -> None:
    """Kill the children that this process has started."""
    while children:
        child = children.pop()
        if child.owner == os.getpid():
            child.kill()


#: All workers of this process: a forked copy of the process must not use, nor keep alive, the children of the original.
_WORKERS: weakref.WeakSet[Worker[..., Any]] = weakref.WeakSet()


def end_children() -> None:
    """Kill the children of all workers of this process, which is about to end; a call may be waiting for one."""
    for child in [child for worker in list(_WORKERS) for child in worker._children]:
        if child.owner == os.getpid():
            child.send_kill()
            child.process.wait()


def _forget_children() -> None:
    for worker in list(_WORKERS):
        worker._lock = threading.Lock()
        while worker._children:
            worker._children.pop().forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_children)


# -- in the child -----------------------------------------------------------------------------------------------------


def _serve(name: str, seconds: float, wall_seconds: float, memory_mb: int) -> NoReturn:
    """Answer requests until the parent closes the pipe or dies."""
    requests, replies = os.dup(0), os.dup(1)
    # What the function prints must not become part of a reply.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    for number in (signal.SIGPROF, signal.SIGALRM):
        # The default action ends the process even while C code runs that never returns to Python.
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGALRM})
    try:
        function = _import(name)
        _limit_memory(memory_mb)
    except BaseException as error:  # noqa: BLE001 - the import of a stranger's module can raise anything
        _write(replies, _EXCEPTION, _describe(error).encode("utf-8", "replace"))
        os._exit(1)
    _write(replies, _READY, b"")
    while True:
        header = _read_exactly(requests, _HEADER.size)
        if not header:
            os._exit(0)
        # One second more than the parent waits: it is for the case that the parent has died.
        signal.setitimer(signal.ITIMER_REAL, wall_seconds + 1)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reply = _answer(function, _read_exactly(requests, _HEADER.unpack(header)[1]))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(replies, *reply)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(function: Callable[..., Any], request: bytes) -> tuple[bytes, bytes]:
    try:
        args, kwargs = pickle.loads(request)
        return _VALUE, pickle.dumps(function(*args, **kwargs), protocol=pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return _MEMORY, b""
    except BaseException as error:  # noqa: BLE001 - also SystemExit and KeyboardInterrupt of a stranger's function
        return _EXCEPTION, _describe(error).encode("utf-8", "replace")


def _import(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    target: Any = importlib.import_module(module)
    for part in attribute.split("."):
        target = getattr(target, part)
    if not callable(target):
        raise TypeError(f"{name} is not a function")
    return target  # type: ignore[no-any-return]


def _limit_memory(mebibytes: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # a system without /proc, or one that does not have this limit
        with open("/proc/self/statm", encoding="ascii") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        limit = size + mebibytes * 2**20
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read_exactly(descriptor: int, length: int) -> bytes:
    """Read ``length`` bytes; return fewer only if the parent has closed the pipe."""
    data = bytearray()
    while len(data) < length:
        piece = os.read(descriptor, min(length - len(data), 2**20))
        if not piece:
            return b""
        data += piece
    return bytes(data)


def _write(descriptor: int, status: bytes, content: bytes) -> None:
    rest = memoryview(_HEADER.pack(status, len(content)) + content)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        os._exit(0)
