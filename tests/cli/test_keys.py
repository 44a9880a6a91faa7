"""Providers echo a planted key everywhere; then all files and outputs of a run are searched for the key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dsrl.testing.fault_server import Fault, FaultServer, anthropic_error, openai_error

pytest.importorskip("openai")
pytest.importorskip("anthropic")

KEY = "sk-proj-planted0123456789abcdefghij"
ODD_KEY = "hunter2hunter2hunter2"
RUN = (
    "run --task mednli --name keys --samples 8 --select 4 --attempts 2 --votes 2 --epochs 1 --batch-size 4 --group-size 2 "
    "--test-size 4 --max-completion-tokens 8"
).split()


def process(folder: Path, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, with the SDKs at their most verbose."""
    talkative = {
        "OPENAI_LOG": "debug",
        "ANTHROPIC_LOG": "debug",
        "PYTHONWARNINGS": "default",
        "PYTHONASYNCIODEBUG": "1",
    }
    code = "from dsrl.cli import main; main()"
    environment = {**os.environ, **talkative, "MY_KEY": key, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def options(url: str, flag: str = "--teacher-option") -> list[str]:
    return [flag, f"base_url={url}", flag, "api_key_env=MY_KEY"]


def searched(folder: Path, done: subprocess.CompletedProcess[str], key: str) -> int:
    """Return the number of files; fail if the key is in a file, in a file name or in the output."""
    assert key not in done.stdout
    assert key not in done.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert key.encode() not in path.read_bytes(), path
        assert key not in str(path)
    return len(files)


@pytest.mark.parametrize(("provider", "key"), [("openai", KEY), ("anthropic", ODD_KEY)])
def test_a_wrong_key_is_nowhere(server: FaultServer, tmp_path: Path, provider: str, key: str) -> None:
    server.key = "another"
    url, model = (server.url, "gpt-4o") if provider == "openai" else (server.root, "claude-haiku-4-5")
    done = process(tmp_path, key, *RUN, "--teacher", f"{provider}:{model}", *options(url))
    assert done.returncode == 1
    assert "rejected the key in MY_KEY" in done.stderr
    assert key in str(server.requests), "it was sent"
    searched(tmp_path, done, key)


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_good_key_is_nowhere(server: FaultServer, tmp_path: Path, provider: str) -> None:
    """A whole run in which some calls fail with an error text that holds the key."""
    server.key = KEY
    server.any_model = True  # the sampler asks for the trained model too
    error = openai_error if provider == "openai" else anthropic_error
    server.faults.extend(
        [Fault(500, error(f"your key {KEY} met a fault")), Fault(), Fault(400, error(f"{KEY}: maximum context length"))]
    )
    url, model = (server.url, "gpt-4o") if provider == "openai" else (server.root, "claude-haiku-4-5")
    sampler = ["--sampler", "openai", *options(server.url, "--sampler-option")]
    done = process(tmp_path, KEY, *RUN, "--teacher", f"{provider}:{model}", *options(url), *sampler)
    assert done.returncode == 0, done.stderr[-3000:]
    assert searched(tmp_path, done, KEY) > 5
    assert (tmp_path / ".dsrl/calls.db").is_file()
    assert (tmp_path / "runs/keys/run.toml").is_file()


@pytest.mark.parametrize(
    "wrong",
    [
        ["--teacher-option", f"api_key={KEY}"],
        ["--teacher-option", f"api_key_env={KEY}"],
        ["--teacher-option", "base_url=https://me:word@host/v1"],
        ["--sampler-option", f"api_key={KEY}"],
    ],
)
def test_a_key_in_the_settings_is_refused_before_anything_is_written(
    dsrl: Any, tmp_path: Path, wrong: list[str]
) -> None:
    done = dsrl(*RUN, "--teacher", "openai:gpt-4o", *wrong)
    assert done.code == 2
    assert "looks like a key" in done.err
    assert KEY not in done.out + done.err
    assert list(tmp_path.iterdir()) == []


def test_no_key_is_said_at_once(dsrl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    done = dsrl(*RUN, "--teacher", "openai:gpt-4o", "--teacher-option", "api_key_env=MY_KEY")
    assert done.code == 1
    assert "MY_KEY is not set" in done.err
    assert "keyring set openai MY_KEY" in done.err
    assert list(tmp_path.iterdir()) == []
