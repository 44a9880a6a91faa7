"""The package is not part of the default environment; its tests find it all the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dsrl import Prompt, SettingsError, TrainItem, TrainJob
from dsrl.testing.fixtures import bound, install  # noqa: F401 - pytest finds them here

ROOT = Path(__file__).parents[1]
for folder in (ROOT, ROOT.parent / "dsrl-ray"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

MakeJob = Callable[..., TrainJob]


def make_items(count: int = 8, is_chat: bool = False) -> tuple[TrainItem, ...]:
    """Make items whose input is their number."""
    return tuple(
        TrainItem(f"1-{n}", Prompt(f"Is {n} even?", is_chat=is_chat), f"Is {n} even?", "no" if n % 2 else "yes")
        for n in range(count)
    )


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Return a function that makes a small job; its arguments replace fields."""

    def make(**fields: Any) -> TrainJob:
        usual: dict[str, Any] = {
            "model": "base",
            "items": make_items(),
            "output_dir": tmp_path / "run" / "model",
            "work_dir": tmp_path / "run" / "work",
            "learning_rate": 1e-3,
            "epochs": 2,
            "batch_size": 4,
            "group_size": 4,
            "temperature": 1.0,
            "top_p": 1.0,
            "kl_coef": 0.001,
            "max_completion_tokens": 8,
            "max_prompt_tokens": 64,
            "seed": 1,
            "device": "cpu",
        }
        return TrainJob(**{**usual, **fields})

    return make


@pytest.fixture
def list_processes() -> Callable[[Path], list[str]]:
    """Return a function that lists the processes of trainings whose mark is a path in a folder."""
    from dsrl_verl.process import MARK

    def find(folder: Path) -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={folder}/".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:80])
        return found

    return find


@pytest.fixture(scope="session")
def head() -> Iterator[str]:
    """The address of a Ray with one node and two logical GPUs, which is not dsrl's."""
    from dsrl_ray.cluster import ask_cluster
    from dsrl_verl.process import MARK, end_processes

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="dh-", dir="/tmp"))  # short enough for Ray's sockets
    # With --block it ends when it is told; `ray stop` would end every Ray of the machine.
    code = (
        "from dsrl_ray.connection import leave_out_dashboard as do; do(); from ray.scripts.scripts import main; main()"
    )
    options = ["--num-gpus=2", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}"]
    command = [sys.executable, "-c", code, "start", "--head", "--block", f"--port={port}", *options]
    # It asks for a token, as every Ray of a user does who has one.
    (folder / "token").write_text("0123456789abcdef" * 4)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(folder / "token")
    environment = {**os.environ, MARK: str(folder)}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    try:
        while True:
            assert process.poll() is None, (folder / "said").read_text()
            with contextlib.suppress(SettingsError):
                ask_cluster(f"127.0.0.1:{port}")
                break
            time.sleep(1)
        yield f"127.0.0.1:{port}"
    finally:
        del os.environ["RAY_AUTH_TOKEN_PATH"]
        end_processes(str(folder))
        shutil.rmtree(folder, ignore_errors=True)
