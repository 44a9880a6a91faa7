"""The real engine on a CPU, with dsrl's tiny model: beside the sampler `transformers`, under a kill, and after its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dsrl_vllm.sampler import VllmSampler

from dsrl import DataError, DsrlError, PluginRef, Prompt, load
from dsrl.testing import RepeatableSamplerContract

from .conftest import needs_vllm

pytestmark = [needs_vllm, pytest.mark.slow]
SETTINGS: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 24, "seed": 3, "first": 0, "adapter": None}
OPTIONS: dict[str, Any] = {"device": "cpu", "max_sequences": 64, "cache_gb": 0.25, "context": 512}


@pytest.fixture(scope="module", autouse=True)
def no_engine_is_left() -> Iterator[None]:
    import psutil

    yield
    left = [
        process for process in psutil.Process().children(recursive=True) if "dsrl_vllm" in " ".join(process.cmdline())
    ]
    assert left == []


def sample(sampler: Any, prompts: list[Prompt], n: int = 1, **settings: Any) -> list[list[str]]:
    texts: list[list[str]] = asyncio.run(sampler.sample(prompts, n, **{**SETTINGS, **settings}))
    return texts


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Questions of two tasks, as a run asks them, plain and in the chat template; their lengths spread widely."""
    texts = []
    for name in ("mednli", "gsm8k"):
        task = load(PluginRef("task", name), "task")
        samples = [task.hook.procedural_sample(seed=seed, difficulty=1 + seed % 4, passage="") for seed in range(20)]
        texts += [f"{sample.input}\n\n{task.hook.output_instruction()}" for sample in samples]
    return [Prompt(text, "Be brief." if i % 4 == 3 else "", is_chat=i % 2 == 1) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def sampler(model_dir: Path) -> Iterator[VllmSampler]:
    sampler = VllmSampler(str(model_dir), **OPTIONS)
    yield sampler
    asyncio.run(sampler.aclose())


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> Iterator[Any]:
    from dsrl_transformers.sampler import TransformersSampler

    sampler = TransformersSampler(str(model_dir), device="cpu")
    yield sampler
    asyncio.run(sampler.aclose())


def test_the_check_passes_and_names_what_is_wrong(sampler: VllmSampler, prompts: list[Prompt]) -> None:
    sampler.check(prompts, 24)


def test_greedy_answers_are_those_of_the_sampler_transformers(
    sampler: VllmSampler, reference: Any, prompts: list[Prompt]
) -> None:
    ours = sample(sampler, prompts, n=2, temperature=0.0, max_tokens=48)
    expected = sample(reference, prompts, n=2, temperature=0.0, max_tokens=48)
    assert ours == expected
    assert len({texts[0] for texts in ours}) > 10, "they differ from prompt to prompt"


def test_a_prompt_that_is_too_long_loses_its_beginning(
    sampler: VllmSampler, prompts: list[Prompt], caplog: pytest.LogCaptureFixture
) -> None:
    long = Prompt("word " * 3000 + str(prompts[0]))
    assert sample(sampler, [long], temperature=0.0, max_tokens=8)
    assert "1 of 1 prompts have more than 504 tokens" in caplog.text


def test_an_attempt_depends_neither_on_order_nor_on_company(sampler: VllmSampler, prompts: list[Prompt]) -> None:
    together = sample(sampler, prompts, n=4)
    assert sample(sampler, prompts[::-1], n=4)[::-1] == together
    assert [sample(sampler, [prompt], n=4)[0] for prompt in prompts[:4]] == together[:4]
    assert sample(sampler, prompts[:8], n=2, first=2) == [texts[2:] for texts in together[:8]]
    assert sample(sampler, prompts, n=4, seed=4) != together
    assert len({text for texts in together for text in texts}) > 40
    twice = sample(sampler, [prompts[0], prompts[0]], n=8)
    assert twice[0] != twice[1], "a prompt that is given twice gets other attempts"

    async def mixed() -> list[Any]:
        calls = [sampler.sample(prompts[i::4], 4, **SETTINGS) for i in range(4)]
        return await asyncio.gather(*calls)

    parts = asyncio.run(mixed())
    assert [parts[i % 4][i // 4] for i in range(len(prompts))] == together, "calls share the batch"


def test_the_distribution_is_that_of_the_sampler_transformers(
    sampler: VllmSampler, reference: Any, prompts: list[Prompt]
) -> None:
    """Frequencies of the first token of 300 attempts, with and without a nucleus."""
    for top_p in (1.0, 0.7):
        (ours,), (theirs,) = (sample(one, prompts[:1], 300, max_tokens=1, top_p=top_p) for one in (sampler, reference))
        words = {*ours, *theirs}
        assert len(words) > 1
        for word in words:
            share = (ours.count(word) + theirs.count(word)) / 600
            spread = (2 * share * (1 - share) / 300) ** 0.5
            assert abs(ours.count(word) - theirs.count(word)) / 300 < 4 * spread + 0.01


def test_a_cancelled_call_leaves_the_engine_free(sampler: VllmSampler, prompts: list[Prompt]) -> None:
    before = sample(sampler, prompts[:2])

    async def interrupted() -> None:
        call = asyncio.create_task(sampler.sample(prompts * 20, 64, **{**SETTINGS, "max_tokens": 200}))
        await asyncio.sleep(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(interrupted())
    assert sample(sampler, prompts[:2]) == before


def test_an_engine_that_is_killed_is_started_again_and_answers_the_same(
    sampler: VllmSampler, prompts: list[Prompt], caplog: pytest.LogCaptureFixture
) -> None:
    expected = sample(sampler, prompts, n=8)
    client = sampler._client
    assert client is not None
    first = client.pid

    async def killed() -> Any:
        call = asyncio.create_task(sampler.sample(prompts, 8, **SETTINGS))
        await asyncio.sleep(0.5)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        return await call

    assert asyncio.run(killed()) == expected
    assert client.pid != first
    assert "died and is started again; its process was killed by SIGKILL" in caplog.text


def test_an_adapter_answers_as_in_the_sampler_transformers(
    sampler: VllmSampler, reference: Any, model_dir: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    import torch
    from dsrl_transformers.language_model import load_model
    from dsrl_transformers.lora import add_adapters

    torch.manual_seed(1)  # the adapter draws half of its weights when it is made
    adapted = add_adapters(load_model(str(model_dir), "cpu").model, 4)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "empty").mkdir()
    base = sample(sampler, prompts[:8], temperature=0.0)
    ours = sample(sampler, prompts[:8], temperature=0.0, adapter=tmp_path / "adapter")
    assert ours == sample(reference, prompts[:8], temperature=0.0, adapter=tmp_path / "adapter")
    assert ours != base
    assert sample(sampler, prompts[:8], temperature=0.0) == base
    with pytest.raises(DataError, match="holds no adapter"):
        sample(sampler, prompts[:1], adapter=tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        sample(sampler, prompts[:1], adapter=tmp_path / "nowhere")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="holds no adapter"):
        sample(sampler, prompts[:1], adapter=tmp_path / "adapter")
    assert sample(sampler, prompts[:8], temperature=0.0) == base, "a broken adapter harms no other call"


class TestContract(RepeatableSamplerContract):
    """The contract, with one engine for all of its tests but those that close it."""

    plugin = "vllm"

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, model_dir: Path) -> Iterator[Any]:
        plugin = load(PluginRef("sampler", "vllm", {"model": str(model_dir), **OPTIONS}), "sampler")
        yield plugin
        asyncio.run(plugin.hook.aclose())

    def use(self, sampler: Any, work: Any) -> Any:
        return asyncio.run(work())

    @pytest.mark.parametrize("calls", [1])
    def test_it_can_be_closed_twice(self, subject: Any, calls: int) -> None:
        super().test_it_can_be_closed_twice(subject, calls)


def test_closing_gives_the_memory_back(sampler: VllmSampler, prompts: list[Prompt]) -> None:
    psutil = pytest.importorskip("psutil")
    sample(sampler, prompts[:2])
    assert sampler._client is not None
    engine = psutil.Process(sampler._client.pid)
    family = [engine, *engine.children(recursive=True)]
    assert sum(process.memory_info().rss for process in family) > 300 * 2**20
    own = psutil.Process().memory_info().rss
    asyncio.run(sampler.aclose())
    assert not any(process.is_running() for process in family)
    assert psutil.Process().memory_info().rss < own + 50 * 2**20


def test_a_model_that_vllm_cannot_load_ends_with_its_last_lines(tmp_path: Path, model_dir: Path) -> None:
    import json
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(model_dir, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "intermediate_size": 2 * config["intermediate_size"]}))
    sampler = VllmSampler(str(broken), **OPTIONS)
    with pytest.raises(DsrlError, match=r"(?s)could not start.*exit code 1.*last lines.*Error"):
        sample(sampler, [Prompt("a")])
    asyncio.run(sampler.aclose())
