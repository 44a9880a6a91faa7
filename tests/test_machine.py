from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsrl.machine import Gpu, count_cpus, list_gpus, read_free_memory, read_total_memory

ANSWER = """GPU-aa, NVIDIA H200, 143771, 143000
GPU-bb, NVIDIA H200, 143771, 1000
GPU-cc, NVIDIA GB10, [N/A], [N/A]
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the place of NVIDIA's, which this machine may not have."""
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{ANSWER}END\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return script


def test_the_gpus_of_the_driver(driver: Path) -> None:
    first, second = list_gpus()
    assert first == Gpu("NVIDIA H200", 143771 * 2**20, 143000 * 2**20)
    assert second.free_bytes == 1000 * 2**20


@pytest.mark.parametrize(
    ("visible", "free"),
    [("", []), ("1", [1000]), ("1,0", [1000, 143000]), ("GPU-bb", [1000]), ("0,7,1", [143000]), ("-1", [])],
)
def test_hidden_gpus_are_left_out(driver: Path, monkeypatch: pytest.MonkeyPatch, visible: str, free: list[int]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.free_bytes // 2**20 for gpu in list_gpus()] == free


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'NVIDIA-SMI has failed'\n", "no script"])
def test_a_driver_that_does_not_work_has_no_gpus(driver: Path, script: str) -> None:
    driver.write_text(script)
    assert list_gpus() == []


def test_the_memory_and_the_cpus() -> None:
    free, total = read_free_memory(), read_total_memory()
    assert free is not None
    assert total is not None
    assert 0 < free <= total
    assert 1 <= count_cpus() <= (os.cpu_count() or 1)
