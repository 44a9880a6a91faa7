"""Errors about teachers and money are reported at once, in a sentence. After a correction, the same command continues."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dsrl.testing.fault_server import Fault, FaultServer

pytest.importorskip("openai")
pytest.importorskip("anthropic")

RUN = (
    "run --task mednli --name bad --samples 4 --votes 2 --base-model tiny --concurrency 4 --stop-after verified".split()
)
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
PAGE = "<!DOCTYPE html><html><head><title>Welcome</title></head></html>"
both = pytest.mark.parametrize("provider", list(MODELS))


def refused(outcome: Any, *words: str, code: int = 1) -> None:
    assert outcome.code == code, outcome.err
    _, said, sentence = outcome.err.rpartition("Error: ")
    assert said, outcome.err
    for word in words:
        assert word in sentence, (word, sentence)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def asking(provider: str, root: str, model: str = "") -> Sequence[str]:
    address = f"{root}/v1" if provider == "openai" else root
    return (*RUN, "--teacher", f"{provider}:{model or MODELS[provider]}", "--teacher-option", f"base_url={address}")


# --- keys, models, addresses -------------------------------------------------------------------------------------------


@both
def test_no_key_names_the_variable_and_where_to_get_one(dsrl: Any, tmp_path: Path, provider: str) -> None:
    page = {"openai": "platform.openai.com", "anthropic": "platform.claude.com"}[provider]
    variable = f"{provider.upper()}_API_KEY"
    outcome = dsrl(*RUN, "--teacher", f"{provider}:{MODELS[provider]}")
    refused(outcome, f"{variable} is not set", page, f"export {variable}=", f"keyring set {provider} {variable}")
    assert list(tmp_path.iterdir()) == []


@both
def test_a_wrong_key_is_told_after_one_call_and_a_good_one_goes_on(
    dsrl: Any, server: FaultServer, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "good"
    refused(dsrl(*asking(provider, server.root)), "requires a key (401", "api_key_env")
    command = (*asking(provider, server.root), "--teacher-option", "api_key_env=MY_KEY")
    monkeypatch.setenv("MY_KEY", "wrong")
    server.requests.clear()
    refused(dsrl(*command), "rejected the key in MY_KEY (401")
    assert len(server.requests) == 1
    monkeypatch.setenv("MY_KEY", "good")
    assert dsrl(*command).code == 0


@both
def test_no_model_and_an_unknown_one(dsrl: Any, server: FaultServer, provider: str, tmp_path: Path) -> None:
    right = asking(provider, server.root)
    nameless = [word.partition(":")[0] if word.startswith(f"{provider}:") else word for word in right]
    refused(dsrl(*nameless), "needs a model", f"{provider}:MODEL", code=2)
    refused(dsrl("plan", "--task", "mednli", "--teacher", provider), "needs a model", code=2)
    assert list(tmp_path.iterdir()) == []
    wrong = f"{MODELS[provider]}x"
    outcome = dsrl(*asking(provider, server.root, wrong))
    refused(outcome, f"has no model {wrong!r}", f"; available models include {MODELS[provider]}")
    assert len(server.requests) == 1
    assert dsrl(*right).code == 0, "nothing was made yet, so that the run's name is still free"


@both
def test_an_address_without_an_api_is_told_without_a_retry(dsrl: Any, server: FaultServer, provider: str) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for root in (closed, "http://no.such.host.invalid", server.root.replace("http", "https")):
        refused(dsrl(*asking(provider, root)), f"no server can be reached at {root}", "is the address right")
    for status in (404, 200):
        server.requests.clear()
        server.faults.append(Fault(status, PAGE))
        refused(dsrl(*asking(provider, server.root)), "no such service", "a page of HTML (Welcome)", "/v1")
        assert len(server.requests) == 1
    refused(dsrl(*asking(provider, f"{server.root}/elsewhere")), "no such service", "404")
    refused(dsrl(*asking(provider, "localhost:8000")), "base_url is not a valid server URL", code=2)
    assert dsrl(*asking(provider, server.root)).code == 0


# --- a second teacher --------------------------------------------------------------------------------------------------


@both
def test_a_second_teacher_that_is_wrong(
    dsrl: Any, server: FaultServer, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, model = asking(provider, server.root), MODELS[provider]
    refused(dsrl(*command, "--solve-teacher", "opnai:gpt-4o"), "no teacher 'opnai'", "did you mean openai?")
    refused(dsrl(*command, "--solve-teacher", provider), "needs a model", code=2)
    assert server.requests == [], "both are told before anybody is asked"
    address = command[-1]
    options = ("--solve-teacher-option", address, "--solve-teacher-option", "api_key_env=MY_KEY")
    named = (*command, "--solve-teacher", f"{provider}:{model}", *options)
    server.refuses = lambda body: (
        None
        if "JSON object" in json.dumps(body) or len(server.requests) == 1
        else Fault(401, {"error": {"message": "no"}})
    )
    monkeypatch.setenv("MY_KEY", "k")
    refused(dsrl(*named), "rejected the key in MY_KEY")
    written = sum("JSON object" in json.dumps(body) for body in server.bodies)
    assert written == 4
    server.refuses = lambda body: None
    assert dsrl(*named).code == 0
    assert sum("JSON object" in json.dumps(body) for body in server.bodies) == 4, "what was paid for is there"


def test_a_second_teacher_without_a_price_and_with_a_budget(dsrl: Any, server: FaultServer, tmp_path: Path) -> None:
    command = (*asking("openai", server.root), "--solve-teacher", "openai:gpt-4o-mini", "--budget", "5")
    refused(dsrl(*command), "the price of 'gpt-4o' is not known", "--price gpt-4o=")
    refused(dsrl(*command, "--price", "gpt-4o=2.5,10"), "the price of 'gpt-4o-mini' is not known")
    assert list(tmp_path.iterdir()) == []
    assert dsrl(*command, "--price", "gpt-4o = 2.5, 10", "--price", "gpt-4o-mini=0.15,0.6").code == 0


# --- calls.db ----------------------------------------------------------------------------------------------------------

LEDGER = Path(".dsrl/calls.db")


def set_version(number: int) -> None:
    with closing(sqlite3.connect(LEDGER)) as database:
        database.execute(f"PRAGMA user_version={number}")


def overwrite(content: bytes) -> None:
    for path in Path(".dsrl").glob("calls.db*"):
        path.unlink()
    LEDGER.write_bytes(content)


def other_program() -> None:
    overwrite(b"")
    with closing(sqlite3.connect(LEDGER)) as database:
        database.execute("CREATE TABLE calls (x)")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda: overwrite(random.Random(0).randbytes(50_000)), ("calls.db is damaged", ".recover", "move it away")),
        (lambda: overwrite(LEDGER.read_bytes()[:9000]), ("calls.db is damaged", ".recover", "move it away")),
        (lambda: set_version(99), ("from a newer version of dsrl (format 99", "update dsrl")),
        (lambda: set_version(1), ("is marked as format 1 but does not have its tables", "move it away")),
        (other_program, ("was not written by dsrl", "move it away")),
    ],
)
def test_a_ledger_that_cannot_be_read(dsrl: Any, server: FaultServer, harm: Any, words: Sequence[str]) -> None:
    command = asking("openai", server.root)
    assert dsrl(*command, "--stop-after", "initial").code == 0
    kept = {path: path.read_bytes() for path in Path(".dsrl").glob("calls.db*")}
    harm()
    server.requests.clear()
    for wrong in (command, ("show", "bad"), ("plan", "--task", "mednli", *command[-4:])):
        refused(dsrl(*wrong), ".dsrl/calls.db", *words)
    assert server.requests == [], "nobody is paid whose answer cannot be kept"
    overwrite(b"")
    for path, content in kept.items():
        path.write_bytes(content)
    assert dsrl(*command).code == 0


def test_a_ledger_that_another_process_has_locked(
    dsrl: Any, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsrl.storage.sqlite.PATIENCE", 0.2)
    command = asking("openai", server.root)
    assert dsrl(*command, "--stop-after", "initial").code == 0
    server.requests.clear()
    with closing(sqlite3.connect(LEDGER, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(dsrl(*command), "calls.db is locked by", "give the same command again")
        assert server.requests == []
    assert dsrl(*command).code == 0


def test_a_ledger_that_cannot_be_written(dsrl: Any, server: FaultServer, tmp_path: Path) -> None:
    command = asking("openai", server.root)
    assert dsrl(*command, "--stop-after", "initial").code == 0
    server.requests.clear()
    if os.geteuid():
        LEDGER.chmod(0o444)
        refused(dsrl(*command), "calls.db cannot be written; check its permissions")
        assert server.requests == [], "nobody is paid whose answer cannot be kept"
        LEDGER.chmod(0o644)
    else:  # root may write what it likes, but not to what is mounted for reading
        mount = shutil.which("mount")
        bound = mount and subprocess.run([mount, "--bind", ".dsrl", ".dsrl"], capture_output=True).returncode == 0
        if not bound:
            pytest.skip("this machine does not let root mount a folder")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", ".dsrl"], check=True)
            refused(dsrl(*command), ".dsrl cannot be written (Read-only file system)", "--cache-dir")
            assert server.requests == [], "nobody is paid whose answer cannot be kept"
        finally:
            subprocess.run(["umount", "-l", ".dsrl"], check=True)
    assert dsrl(*command).code == 0


def test_a_fault_that_waits_for_other_calls_is_told_before(
    dsrl: Any, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsrl.pipeline.runtime.CLOSING_NOTE_DELAY", 0.1)
    monkeypatch.setattr("dsrl.teaching.ledger.GRACE", 1.0)
    met = {1: None, 2: None, 3: Fault(how="hang")}
    server.refuses = lambda body: met.get(len(server.requests), Fault(401))
    outcome = dsrl(*asking("openai", server.root))
    refused(outcome, "401")
    assert "stopping (" in outcome.err
    assert "press Ctrl-C to stop at once" in outcome.err
