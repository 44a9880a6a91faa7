from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dsrl_transformers.sampler import TransformersSampler

from dsrl import DataError, DsrlError, Prompt, SettingsError

PROMPTS = ["what is 1+1?", "is it so?", ""]
SETTINGS: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 5, "seed": 3, "first": 0, "adapter": None}


def sample(sampler: TransformersSampler, prompts: list[str], n: int, **settings: Any) -> list[list[str]]:
    return asyncio.run(sampler.sample([*map(Prompt, prompts)], n, **{**SETTINGS, **settings}))


def test_shape_and_repeatability(model_dir: Path) -> None:
    sampler = TransformersSampler(str(model_dir))
    texts = sample(sampler, PROMPTS, 8)
    assert [len(row) for row in texts] == [8, 8, 8]
    assert all(isinstance(text, str) and "<eos>" not in text for row in texts for text in row)
    asyncio.run(sampler.aclose())
    again = TransformersSampler(str(model_dir))
    sample(again, ["something else"], 3)
    assert sample(again, PROMPTS, 8) == texts
    asyncio.run(again.aclose())


def test_the_event_loop_stays_free(model_dir: Path) -> None:
    sampler = TransformersSampler(str(model_dir))

    async def both() -> int:
        calls = [
            asyncio.create_task(sampler.sample([Prompt("abc" * 20)] * 20, 32, **{**SETTINGS, "max_tokens": 40}))
            for _ in range(2)
        ]
        ticks = 0
        while not all(call.done() for call in calls):
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    assert asyncio.run(both()) > 5
    asyncio.run(sampler.aclose())


def test_a_cancelled_call_ends_soon(model_dir: Path) -> None:
    sampler = TransformersSampler(str(model_dir))
    sample(sampler, ["a"], 1)

    async def interrupted() -> None:
        call = asyncio.create_task(sampler.sample([Prompt("abc")] * 200, 64, **{**SETTINGS, "max_tokens": 200}))
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    start = time.monotonic()
    asyncio.run(interrupted())
    asyncio.run(sampler.aclose())
    assert time.monotonic() - start < 5


def test_faults_are_sentences(tmp_path: Path, model_dir: Path) -> None:
    with pytest.raises(DataError, match="holds no model"):
        sample(TransformersSampler(str(tmp_path)), ["a"], 1)
    with pytest.raises(DataError, match="nowhere"):
        sample(TransformersSampler(str(tmp_path / "nowhere")), ["a"], 1)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        broken = tmp_path / f"broken-{name}"
        broken.mkdir()
        for file in model_dir.iterdir():
            content = file.read_bytes()
            (broken / file.name).write_bytes(content[: len(content) // 2] if file.name == name else content)
        with pytest.raises(DataError, match="holds no model"):
            sample(TransformersSampler(str(broken)), ["a"], 1)
    with pytest.raises(SettingsError, match="float16"):
        sample(TransformersSampler(str(model_dir), dtype="float16"), ["a"], 1)
    with pytest.raises(SettingsError, match="gpu"):
        sample(TransformersSampler(str(model_dir), device="gpu"), ["a"], 1)


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, dsrl_transformers.sampler, dsrl_transformers.grpo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_too_little_memory_is_a_sentence(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from dsrl_transformers import language_model

    def full(*args: Any, **settings: Any) -> Any:
        raise torch.OutOfMemoryError("tried to allocate")

    monkeypatch.setattr(language_model, "decode", full)
    with pytest.raises(DsrlError, match="smaller cache_tokens"):
        sample(TransformersSampler(str(model_dir)), ["a"], 1)

    def fill_main_memory(*args: Any, **settings: Any) -> Any:
        return torch.empty(2**50)  # torch raises its own error, a RuntimeError

    monkeypatch.setattr(language_model, "decode", fill_main_memory)
    with pytest.raises(DsrlError, match=r"smaller cache_tokens.*DefaultCPUAllocator"):
        sample(TransformersSampler(str(model_dir)), ["a"], 1)

    def fail(*args: Any, **settings: Any) -> Any:
        raise RuntimeError("shapes")

    monkeypatch.setattr(language_model, "decode", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        sample(TransformersSampler(str(model_dir)), ["a"], 1)


def test_too_little_memory_for_the_model_is_a_sentence(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from dsrl_transformers import language_model

    def fill_main_memory(*args: Any, **settings: Any) -> Any:
        return torch.empty(2**50)

    monkeypatch.setattr(language_model.AutoModelForCausalLM, "from_pretrained", fill_main_memory)
    with pytest.raises(DsrlError, match=r"memory of cpu is too small for the model .*smaller --base-model"):
        sample(TransformersSampler(str(model_dir)), ["a"], 1)


def test_too_little_memory_halves_the_cache_and_says_so_once(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch
    from dsrl_transformers import language_model

    decode, sizes = language_model.decode, []

    def fill(model: Any, prompts: Any, settings: Any, *rest: Any) -> Any:
        sizes.append(settings.cache_tokens)
        if settings.cache_tokens > 20000:
            raise torch.OutOfMemoryError("tried to allocate")
        return decode(model, prompts, settings, *rest)

    texts = sample(TransformersSampler(str(model_dir)), PROMPTS, 2)
    monkeypatch.setattr(language_model, "decode", fill)
    sampler = TransformersSampler(str(model_dir), cache_tokens=32768)
    assert sample(sampler, PROMPTS, 2) == texts
    assert sample(sampler, PROMPTS, 2) == texts
    assert sizes == [32768, 16384, 16384]
    assert [record.getMessage() for record in caplog.records if "memory is too small" in record.getMessage()] == [
        "The device's memory is too small for the model and 32768 tokens of its cache. It uses 16384 from now on. "
        "Give --sampler-option cache_tokens=16384 to begin with that."
    ]


def test_the_cache_follows_from_the_memory() -> None:
    from dsrl_transformers import memory

    from .conftest import build_model

    model = build_model()  # 2 layers, keys and values, 2 heads of 16 numbers of 4 bytes
    assert memory.count_bytes_per_token(model) == 2 * 2 * 2 * 16 * 4
    tokens = memory.choose_cache_tokens(model)
    assert tokens == memory.choose_cache_tokens(model)
    assert 4096 <= tokens <= 2**20


def test_the_cache_of_rollouts_leaves_what_the_training_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from dsrl_transformers import memory

    from .conftest import build_model

    model = build_model()
    size = memory.count_bytes_per_token(model)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    monkeypatch.setattr(memory, "read_capacity", lambda device: weights + 4 * 20480 * size)
    assert memory.choose_cache_tokens(model) == 20480
    assert memory.choose_rollout_tokens(model, 0) == 20480
    assert memory.choose_rollout_tokens(model, 4 * 10240 * size) == 10240
    monkeypatch.setattr(memory, "read_capacity", lambda device: 2**50)
    assert memory.choose_rollout_tokens(model, 0) == 32768, "larger batches are no faster on a CPU"


def test_as_a_bound_plugin(model_dir: Path) -> None:
    """The first attempts of a call are those of a call without a first number, and the rest follows on."""
    from dsrl.plugins.binding import load
    from dsrl.types import PluginRef

    plugin = load(PluginRef("sampler", "transformers", {"model": str(model_dir)}), "sampler")
    assert plugin.accepts("sample", "first")
    assert plugin.accepts("sample", "adapter")
    prompts = [Prompt("is it so?"), Prompt("is it so?", system="say no.")]

    async def both() -> None:
        settings = {name: value for name, value in SETTINGS.items() if name not in ("first", "adapter")}
        whole = await plugin.hook.sample(prompts=prompts, n=8, **settings)
        rest = await plugin.hook.sample(prompts=prompts, n=3, first=5, **settings)
        assert [texts[5:] for texts in whole] == rest
        assert whole[0] != whole[1]
        await plugin.hook.aclose()
        await plugin.hook.aclose()

    asyncio.run(both())


def test_an_adapter_changes_the_answers_of_one_call(model_dir: Path, tmp_path: Path) -> None:
    import torch
    from dsrl_transformers.language_model import load_model
    from dsrl_transformers.lora import add_adapters

    expected = {}
    for rank in (2, 4):
        lm = load_model(str(model_dir))
        adapted = add_adapters(lm.model, rank)
        torch.manual_seed(rank)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(tmp_path / f"adapter-{rank}")
        merged = tmp_path / f"merged-{rank}"
        adapted.merge_and_unload().save_pretrained(merged)
        lm.tokenizer.save_pretrained(merged)
        expected[tmp_path / f"adapter-{rank}"] = sample(TransformersSampler(str(merged)), PROMPTS, 1, temperature=0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    for file in (tmp_path / "adapter-2").iterdir():
        content = file.read_bytes()
        (tmp_path / "other" / file.name).write_bytes(content.replace(b'"r": 2', b'"r": 3'))

    sampler = TransformersSampler(str(model_dir))
    base = sample(sampler, PROMPTS, 1, temperature=0)
    for folder, texts in expected.items():
        assert sample(sampler, PROMPTS, 1, temperature=0, adapter=folder) == texts != base
        assert sample(sampler, PROMPTS, 1, temperature=0) == base
    for wrong, words in (("empty", "holds no adapter"), ("other", "holds no adapter"), ("nowhere", "does not exist")):
        with pytest.raises(DataError, match=words):
            sample(sampler, PROMPTS, 1, temperature=0, adapter=tmp_path / wrong)
        assert sample(sampler, PROMPTS, 1, temperature=0) == base
    folder, texts = expected.popitem()
    assert sample(sampler, PROMPTS, 1, temperature=0, adapter=folder) == texts
