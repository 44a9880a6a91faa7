"""The calls and the restart, with a script that speaks the engine's protocol and fails when it is told to.

A real engine cannot be made to die at a given place; `test_engine.py` kills one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dsrl_vllm import process
from dsrl_vllm.client import EngineClient, make_message
from dsrl_vllm.process import EngineProcess

from dsrl import DataError, DsrlError

FAULTY_ENGINE = """
import json, os, signal, sys
from pathlib import Path
out = os.fdopen(int(sys.argv[2]), "w")
settings = json.loads(sys.argv[3])
folder = Path(settings["folder"])
starts = len(list(folder.glob("start-*")))
(folder / f"start-{starts}-{settings['rank']}").touch()
print("engine", starts, "starts", flush=True)
if settings["fault"] == "start":
    print("\\x1b[31mno kernel image\\x1b[0m", flush=True)
    sys.exit(3)
print(json.dumps({"ready": 99}), file=out, flush=True)
for line in sys.stdin:
    call = json.loads(line)
    with (folder / "calls").open("a") as file:
        file.write(line)
    for place, prompt in enumerate(call.get("prompts", ())):
        if prompt[0] == "hang":
            break
        if place in call["done"]:
            continue
        if prompt[0] == "die" and (starts == 0 or settings["fault"] == "twice"):
            print("CUDA error: an illegal memory access", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        answer = {"id": call["id"], "prompt": place, "texts": [prompt[0]] * call["n"]}
        if prompt[0] == "bad":
            answer = {"id": call["id"], "error": "no adapter", "kind": "data"}
        print(json.dumps(answer), file=out, flush=True)
if os.getpgrp() == os.getpid():
    os.killpg(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def make_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EngineClient]]:
    monkeypatch.setattr(process, "_BOOTSTRAP", FAULTY_ENGINE)
    clients = []

    def make(fault: str = "") -> EngineClient:
        def start(rank: int, on_message: Any, on_end: Any) -> EngineProcess:
            settings = {"folder": str(tmp_path), "fault": fault, "rank": rank}
            return EngineProcess(settings, {}, on_message, on_end)

        clients.append(EngineClient(start))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def submit(client: EngineClient, *prompts: str, rank: int = 0) -> Any:
    message = make_message([(text, "", False) for text in prompts], 2, 1.0, 1.0, 8, 1, 0, None)
    return client.submit(message, len(prompts), rank)[1]


def count_starts(folder: Path) -> int:
    return len(list(folder.glob("start-*")))


def test_calls_at_the_same_time_get_their_own_texts(make_client: Any, tmp_path: Path) -> None:
    client = make_client()
    futures = [submit(client, f"a{i}", f"b{i}") for i in range(20)]
    assert [future.result(20) for future in futures] == [[[f"a{i}"] * 2, [f"b{i}"] * 2] for i in range(20)]
    assert count_starts(tmp_path) == 1


def test_an_engine_that_dies_is_told_and_started_again_once(
    make_client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client()
    future = submit(client, "a", "die", "b")
    assert future.result(20) == [["a"] * 2, ["die"] * 2, ["b"] * 2]
    assert "died and is started again; its process was killed by SIGKILL" in caplog.text
    assert "CUDA error: an illegal memory access" in caplog.text
    assert count_starts(tmp_path) == 2
    resent = (tmp_path / "calls").read_text().splitlines()[-1]
    assert '"done": [0]' in resent, "what was answered is not asked for again"


def test_an_engine_that_dies_again_ends_the_call_with_its_last_lines(make_client: Any, tmp_path: Path) -> None:
    client = make_client("twice")
    future = submit(client, "die")
    with pytest.raises(DsrlError, match=r"(?s)died again: .*SIGKILL.*illegal memory access.*max_sequences=64"):
        future.result(20)
    assert count_starts(tmp_path) == 2


def test_an_engine_that_cannot_start_is_not_started_again(make_client: Any, tmp_path: Path) -> None:
    future = submit(make_client("start"), "a")
    with pytest.raises(
        DsrlError, match=r"(?s)could not start: its process ended with exit code 3.*no kernel image"
    ) as error:
        future.result(20)
    assert "\x1b" not in str(error.value)
    assert count_starts(tmp_path) == 1


def test_an_error_of_one_call_is_not_that_of_another(make_client: Any) -> None:
    client = make_client()
    bad, good = submit(client, "bad"), submit(client, "a")
    with pytest.raises(DataError, match="no adapter"):
        bad.result(20)
    assert good.result(20) == [["a"] * 2]


def test_the_first_adapter_starts_an_engine_with_room_for_it(make_client: Any, tmp_path: Path) -> None:
    client = make_client()
    assert submit(client, "a").result(20)
    waiting = submit(client, "hang", "b")
    assert submit(client, "a", rank=8).result(20)
    assert submit(client, "a", rank=8).result(20)
    assert sorted(path.name for path in tmp_path.glob("start-*")) == ["start-0-0", "start-1-8"]
    assert not waiting.done(), "the call that was under way is asked again"
    assert sum('"hang"' in line for line in (tmp_path / "calls").read_text().splitlines()) == 2


def test_closing_ends_the_process_and_a_later_call_starts_another(make_client: Any, tmp_path: Path) -> None:
    client = make_client()
    submit(client, "a").result(20)
    pid = client.pid
    client.close()
    assert not Path(f"/proc/{pid}").exists()
    client.close()
    assert submit(client, "a").result(20)
    assert count_starts(tmp_path) == 2


def test_a_cancelled_call_is_told_to_the_engine(make_client: Any, tmp_path: Path) -> None:
    client = make_client()
    message = make_message([("hang", "", False)], 2, 1.0, 1.0, 8, 1, 0, None)
    number, _ = client.submit(message, 1, 0)
    client.cancel(number)
    assert submit(client, "a").result(20)
    assert f'{{"cancel": {number}}}' in (tmp_path / "calls").read_text()


def test_the_process_ends_when_dsrl_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys, signal
sys.path[:0] = {sys.path!r}
from dsrl_vllm import process
process._BOOTSTRAP = {FAULTY_ENGINE!r}
settings = {{"folder": {str(tmp_path)!r}, "fault": "", "rank": 0}}
def end(process, message):
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
process.EngineProcess(settings, {{}}, end, lambda process: None)
signal.pause()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    pid = int(ran.stdout)
    deadline = time.monotonic() + 20
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
