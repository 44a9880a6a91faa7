"""Starts the real ``dsrl run`` in processes of its own, with nothing from this environment that could change it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Environment variable of the key; the option that names it is the same for all, so that they share their replies.
KEY = "TORTURE_KEY"
#: Seconds after which a process counts as hanging; the ledger itself gives calls under way a minute when it is stopped.
HANGING = 180.0
_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        stderr: all of it.
        peak: bytes of memory at most (resident).
        seconds: from its start.
        cpu: seconds of a core.
        stopped: why it was killed from here; empty where it ended by itself.
    """

    code: int
    stderr: str
    peak: int
    seconds: float
    cpu: float
    stopped: str = ""


class Child:
    """A running ``dsrl run``.

    Args:
        arguments: behind ``run``.
        folder: to work in; must be there.
        key: what the provider will see.
        pause: seconds between two tries of a call at most.
        most: bytes of memory at which it is killed, to spare the machine.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, key: str, pause: float = 0.1, most: int = 3 * 2**30
    ) -> None:
        self.key, self._most = key, most
        self._path, self._mark = folder / f"stderr-{key}", folder / f"started-{key}"
        self._started: float | None = None
        self._began = time.monotonic()
        with self._path.open("wb") as stderr:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", str(_CHILD), "run", *arguments],
                cwd=folder,
                env={**_environment(key, pause), "TORTURE_STARTED": str(self._mark)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        self._peak, self._cpu, self._stopped = 0, 0.0, ""
        self._code: int | None = None

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    @property
    def started(self) -> float | None:
        """Seconds between its start and the moment at which Python was up and the command began; None before."""
        if self._started is None and self._mark.exists():
            self._started = self.seconds
        return self._started

    def is_running(self, patience: float = HANGING) -> bool:
        """Look after it: False when it has ended. What hangs, or takes too much memory, is killed."""
        if self._code is not None:
            return False
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if pid:
            self._code = self._process.returncode = os.waitstatus_to_exitcode(status)
            self._peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            self._cpu = usage.ru_utime + usage.ru_stime
            self._ended = self.seconds
            return False
        if not self._stopped and self.seconds > patience:
            self._stop(f"hangs since {patience:.0f} s")
        elif not self._stopped and (memory := _memory(self._process.pid)) > self._most:
            self._stop(f"takes {memory / 2**20:.0f} MB")
        return True

    def _stop(self, why: str) -> None:
        self._stopped = why
        self._process.kill()

    def send(self, signal: int) -> None:
        """Send a signal; nothing happens where it has ended."""
        if self._code is None:
            self._process.send_signal(signal)

    def ended(self, patience: float = HANGING) -> Ended:
        """Wait for its end."""
        while self.is_running(patience):
            time.sleep(0.01)
        assert self._code is not None
        text = self._path.read_text(encoding="utf-8", errors="replace")
        return Ended(self._code, text, self._peak, self._ended, self._cpu, self._stopped)


def _environment(key: str, pause: float) -> dict[str, str]:
    strange = ("OPENAI_", "ANTHROPIC_", "AZURE_", "DSRL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {
        KEY: key,
        "TORTURE_LONGEST_PAUSE": str(pause),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }
    return {**kept, **own, "PYTHONPATH": os.pathsep.join(paths)}


def _memory(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):  # it has just ended, or this is no Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def arguments_of(settings: dict[str, Any]) -> list[str]:
    """Write flags: ``{"stop_after": "verified", "price": [...]}``."""
    flags: list[str] = []
    for name, value in settings.items():
        for one in value if isinstance(value, list) else [value]:
            flags += [f"--{name.replace('_', '-')}", str(one)]
    return flags


def make_index(folder: Path) -> Path:
    """Index the embedded passage library once, for all runs; give its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / ".dsrl" / "index"
    if not index.exists():
        settings = {"task": "mednli", "samples": 1, "stop_after": "passages", "name": "index"}
        ended = Child(arguments_of(settings), folder, "index").ended()
        if ended.code:
            raise RuntimeError(f"the index could not be made: {ended.stderr}")
    return index


def make_folder(folder: Path, index: Path) -> Path:
    """Make a working folder with the index in it."""
    shutil.copytree(index, folder / ".dsrl" / "index")
    return folder
