"""verl as a child process in a process group of its own, with its log in a file."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from dsrl import StoreError

#: Seconds that verl gets to end by itself before it is killed.
_GRACE = 15.0
#: Bytes of the end of the log that are read for an error, and lines of it that are shown.
_TAIL_BYTES, _TAIL_LINES = 64 * 1024, 25
#: Colours, and the process that Ray names at the beginning of a line.
_DECORATION = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|^\([\w :.=,#-]*pid=\d+[^)]*\)\s?")


#: The variable by which the processes of a training are known, Ray's among them: they leave the group of their parent.
MARK = "DSRL_VERL_PROCESS_OF"


def end_processes(mark: str) -> None:
    """End all processes of this user that a training has started and that still run; this process stays.

    Args:
        mark: the value of :data:`MARK` of the training.
    """
    deadline = time.monotonic() + _GRACE
    # More than once: a process may start another one before it is ended, and a large one takes a moment to end.
    while running := _find_processes(mark):
        for number in running:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _find_processes(mark: str) -> list[int]:
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


class VerlProcess:
    """A run of verl. Used as a context, it is ended with its processes when the context ends.

    Args:
        overrides: the arguments of verl's command.
        log: file for what it prints.
        folder: the folder that it runs in.
        environment: variables that are added to those of this process. With :data:`MARK` among them, the processes of Ray
            are ended, too.

    Raises:
        StoreError: the log cannot be written.
    """

    def __init__(self, overrides: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.log, self._mark = log, environment.get(MARK)
        hydra = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none"]
        try:
            self._file = log.open("ab")
        except OSError as error:
            raise StoreError(f"the log of verl {log} cannot be written: {error}") from error
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dsrl_verl.driver", *hydra, *overrides],
            stdin=subprocess.PIPE,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C in a terminal reaches only dsrl, which then ends verl in order
        )

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def __enter__(self) -> VerlProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End verl and the processes of its group."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)  # Ray then ends its processes
            deadline = time.monotonic() + _GRACE
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        self._signal(signal.SIGKILL)
        self._process.wait()
        if self._mark is not None:
            end_processes(self._mark)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._file.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def read_last_lines(self) -> str:
        """Return the last lines of the log."""
        return read_last_lines(self.log)


def read_last_lines(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log without colours and empty lines; each only once in a row.

    Args:
        log: the file; it may be missing.
        lines: maximum number of lines.
    """
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    kept: deque[str] = deque(maxlen=lines)
    for line in text.splitlines():
        clean = _DECORATION.sub("", _DECORATION.sub("", line)).rstrip()
        if clean.strip() and (not kept or kept[-1] != clean):
            kept.append(clean[:300])
    return "\n".join(kept)


def find_own_paths() -> list[str]:
    """Return the entries of ``sys.path`` that another process of this interpreter would not have by itself."""
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    return [path for path in sys.path if path and not path.startswith(prefixes) and Path(path).exists()]
