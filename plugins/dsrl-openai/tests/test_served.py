"""The teacher and the sampler against real servers with dsrl's tiny model, on the loopback.

`transformers serve` needs ``pip install "transformers[serving]"`` and dsrl-transformers; it ignores ``n`` and
``response_format``. vLLM is too large for every day and needs an environment of its own: ``make test-vllm``. What the model
writes is nonsense, but the servers are others' reading of OpenAI's API than ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import RowRefused, TeacherError, TransientError
from dsrl.plugins.binding import load
from dsrl.types import Completion, Message, PluginRef, Prompt, Request

pytestmark = pytest.mark.slow
pytest.importorskip("fastapi", reason='pip install "transformers[serving]"')
dsrl_transformers = pytest.importorskip("dsrl_transformers")

TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with a chat template, and a generation config that samples."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(Path(dsrl_transformers.__file__).parent / "tiny", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "do_sample": True}))
    return folder


@pytest.fixture(scope="module", params=["transformers", "vllm"])
def server(request: pytest.FixtureRequest) -> str:
    if request.param == "vllm" and "DSRL_VLLM_PYTHON" not in os.environ:
        pytest.skip("DSRL_VLLM_PYTHON names no interpreter with vLLM: make test-vllm")
    return str(request.param)


@pytest.fixture(scope="module")
def url(server: str, model: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if server == "vllm":
        command = [os.environ["DSRL_VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "512"]
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    log = model.parent / f"{server}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=out, stderr=out
        )
        try:
            deadline = time.monotonic() + 300
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.3)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def complete(url: str, *requests: Request, **options: Any) -> list[Completion]:
    async def work() -> list[Completion]:
        teacher = load(PluginRef("teacher", "openai", {"base_url": url, **options}), "teacher")
        try:
            return await asyncio.gather(*(teacher.hook.complete(request=request) for request in requests))
        finally:
            await teacher.hook.aclose()

    return asyncio.run(work())


@pytest.fixture
def request_(model: Path) -> Request:
    messages = (Message("system", "You write."), Message("user", "Premise: a. Hypothesis: b."))
    return Request("solve", str(model), messages, 1.0, 12)


def test_the_teacher_gets_answers(server: str, url: str, request_: Request) -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    many = complete(url, replace(request_, n=3), *[replace(request_, schema=schema)] * 8)
    assert [len(completion.replies) for completion in many] == [3 if server == "vllm" else 1, *[1] * 8]
    for completion in many:
        assert completion.usage.prompt_tokens > 0
        assert completion.usage.completion_tokens > 0
        assert all(
            isinstance(reply.text, str) and reply.finish_reason in ("stop", "length") for reply in completion.replies
        )
    assert any(reply.text for completion in many for reply in completion.replies)
    assert len({reply.text for completion in many for reply in completion.replies}) > 1, "it samples"


def test_a_schema_is_kept_where_the_server_has_it(server: str, url: str, request_: Request) -> None:
    if server == "transformers":
        pytest.skip("transformers serve ignores response_format")
    label = {"enum": ["entailment", "neutral"]}
    schema = {"type": "object", "properties": {"l": label}, "required": ["l"], "additionalProperties": False}
    (completion,) = complete(url, replace(request_, schema=schema, n=4, max_tokens=40))
    assert len(completion.replies) == 4
    for reply in completion.replies:  # the model may fill its length with spaces, which JSON allows
        assert re.fullmatch(r'\s*\{\s*("l"\s*(:\s*("(entailment|neutral)"\s*(\}\s*)?)?)?)?', reply.text), reply.text


def test_a_model_that_it_does_not_have(server: str, url: str, model: Path, request_: Request) -> None:
    if server == "transformers":  # it answers 500
        with pytest.raises(TransientError):
            complete(url, replace(request_, model="nobody/nothing"))
    else:
        with pytest.raises(TeacherError, match=f"no model .*available models include {model}"):
            complete(url, replace(request_, model=f"{model}-2"))


def test_a_prompt_that_is_too_long_drops_the_row(server: str, url: str, request_: Request) -> None:
    if server == "transformers":
        pytest.skip("transformers serve takes any length")
    with pytest.raises(RowRefused) as refused:
        complete(url, replace(request_, messages=(Message("user", "one two three " * 1000),)))
    assert refused.value.reason == "context_too_long"


def test_the_sampler_gets_completions(url: str, model: Path) -> None:
    sampler = load(PluginRef("sampler", "openai", {"model": str(model), "base_url": url, "concurrency": 8}), "sampler")

    def sample(temperature: float) -> Any:
        return asyncio.run(
            sampler.hook.sample(
                prompts=[Prompt("Premise: a."), Prompt("Hypothesis: b.")],
                n=4,
                temperature=temperature,
                top_p=1.0,
                max_tokens=8,
                seed=3,
            )
        )

    hot = sample(1.0)
    assert [len(texts) for texts in hot] == [4, 4]
    assert all(isinstance(text, str) for texts in hot for text in texts)
    assert len({text for texts in hot for text in texts}) > 2
    asyncio.run(sampler.hook.aclose())


def test_a_run_by_a_served_base_model(server: str, url: str, tmp_path: Path) -> None:
    """A whole run. The server loads the trained model too, by the name of its folder."""
    if server == "vllm":
        pytest.skip("vLLM serves the one model that it was started with")
    arguments = (
        "run --task mednli --name served --samples 16 --select 8 --attempts 4 --votes 2 --epochs 1 --batch-size 4 "
        "--group-size 4 --test-size 20 --max-completion-tokens 16 --sampler openai --json"
    )
    command = [sys.executable, "-c", "from dsrl.cli import main; main()", *arguments.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--sampler-option", f"base_url={url}", "--output-model", str(tmp_path / "trained")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert 0 < result["base_accuracy"] < 1
    assert result["samples"]["solved"] > 0
    assert 0 < result["trained_accuracy"] <= 1
