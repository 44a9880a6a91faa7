"""The engine's process as its parent sees it: lines of JSON in both directions, and the end of what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

#: Seconds that the process gets to end by itself before it is killed.
_GRACE = 5.0
#: Characters of a line that are kept, and lines.
_LINE, _LINES = 500, 25
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: The end of a traceback of vLLM's own processes, which the traceback of their parent would push out of the last lines.
_CAUSE = re.compile(r"^\((?:EngineCore|Worker)[^)]*\).*?\b([A-Za-z_][\w.]*(?:Error|Exception)\b.*)")
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dsrl_vllm.engine import main; main(int(sys.argv[2]), json.loads(sys.argv[3]))"
)


class EngineProcess:
    """A process with an engine, in a session of its own, so that Ctrl-C in a terminal reaches only dsrl.

    The process ends itself, with all its own children, when its stdin is closed: also when this process is killed.

    Args:
        settings: what :func:`dsrl_vllm.engine.main` receives.
        environment: variables that are added to those of this process.
        on_message: is called with each message, in a thread.
        on_end: is called once, after the last message, in that thread.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        on_message: Callable[[EngineProcess, dict[str, Any]], None],
        on_end: Callable[[EngineProcess], None],
    ) -> None:
        self._on_message, self._on_end = on_message, on_end
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._cause = ""
        self._write_lock = threading.Lock()
        read_end, write_end = os.pipe()
        command = [sys.executable, "-c", _BOOTSTRAP, json.dumps(sys.path), str(write_end), json.dumps(settings)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[write_end],
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self._log_reader = threading.Thread(target=self._read_log, name="dsrl-vllm-log", daemon=True)
        self._reader = threading.Thread(target=self._read, args=(read_end,), name="dsrl-vllm", daemon=True)
        self._log_reader.start()
        self._reader.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message. Nothing happens if the process has ended: ``on_end`` tells that."""
        assert self._process.stdin is not None
        with self._write_lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the process and its children, and wait until their memory is free."""
        # The process kills its group when its stdin ends. A lock that a writer holds must not keep this from happening.
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            if self._write_lock.acquire(timeout=1):
                try:
                    self._process.stdin.close()
                finally:
                    self._write_lock.release()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self.kill()
        self._process.wait()
        for thread in (self._reader, self._log_reader):
            if thread is not threading.current_thread():
                thread.join(_GRACE)

    def describe_end(self) -> str:
        """Say how the process ended, with the last lines of what it printed."""
        self._log_reader.join(1)
        code = self._process.poll()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"was killed by {signal.Signals(-code).name}"
                return self._add_lines(how)
        return self._add_lines(f"ended with exit code {code}")

    def _add_lines(self, how: str) -> str:
        lines = list(self._lines)
        if self._cause and not any(self._cause in line for line in lines):
            how += f", because of {self._cause}"
        return f"{how}; its last lines:\n" + "\n".join(f"    {line}" for line in lines) if lines else how

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while line := stream.readline(65536):
                text = _COLOURS.sub("", line.decode("utf-8", "replace")).strip("\r\n").rstrip()[:_LINE]
                if text.strip() and (not self._lines or self._lines[-1] != text):
                    self._lines.append(text)
                if found := _CAUSE.match(text):
                    self._cause = found.group(1)

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as stream:
            for line in stream:
                try:
                    message = json.loads(line)
                except ValueError:
                    break  # the process died in the middle of a line
                self._on_message(self, message)
        # Its children may still hold the log open, so it is the process itself that is waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self.kill()
        self._process.wait()
        self._on_end(self)
