"""What this machine has: memory and GPUs. No library for GPUs is imported, and no memory of a GPU is taken."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Seconds that the driver may take to tell its GPUs.
_GPU_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that this process may use.

    Attributes:
        name: what its maker calls it.
        total_bytes: its memory.
        free_bytes: how much of it nobody uses.
    """

    name: str
    total_bytes: int
    free_bytes: int


def list_gpus() -> list[Gpu]:
    """List the GPUs of NVIDIA that this process may use, in the order of the driver; none if there is no driver.

    ``CUDA_VISIBLE_DEVICES`` hides the others.
    """
    query = ["nvidia-smi", "--query-gpu=uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(
            query, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    gpus: dict[str, Gpu] = {}
    for line in told.splitlines():
        with contextlib.suppress(ValueError):  # "[N/A]": a GPU that shares the memory of the machine
            uuid, name, total, free = (part.strip() for part in line.split(","))
            gpus[uuid] = Gpu(name, int(total) * 2**20, int(free) * 2**20)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(gpus.values())
    chosen = []
    for word in visible.split(","):
        found = [gpu for i, (uuid, gpu) in enumerate(gpus.items()) if word.strip() in (str(i), uuid)]
        if not found:
            break  # as CUDA does: what stands behind an unknown device is hidden
        chosen += found
    return chosen


def read_total_memory() -> int | None:
    """Return the bytes of main memory that this process may use in all; None if that cannot be read."""
    return min(filter(None, (_read_meminfo("MemTotal"), _read_cgroup_limit())), default=None)


def read_free_memory() -> int | None:
    """Return the bytes of main memory that are free now; None if that cannot be read."""
    return min(filter(None, (_read_meminfo("MemAvailable"), _read_cgroup_limit())), default=None)


def count_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_meminfo(name: str) -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _read_cgroup_limit() -> int | None:
    """Return the limit that a container puts on the memory; None if there is none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None
