from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dsrl_transformers.sampler import TransformersSampler

from dsrl.errors import DataError, DsrlError, SettingsError

SETTINGS: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 5, "seed": 3}


def sample(sampler: TransformersSampler, prompts: list[str], n: int, **settings: Any) -> list[list[str]]:
    return asyncio.run(sampler.sample(prompts, n, **{**SETTINGS, **settings}))


def test_shape_and_repeatability(model_dir: Path) -> None:
    sampler = TransformersSampler(str(model_dir))
    prompts = ["what is 1+1?", "is it so?", ""]
    texts = sample(sampler, prompts, 8)
    assert [len(row) for row in texts] == [8, 8, 8]
    assert all(isinstance(text, str) and "<eos>" not in text for row in texts for text in row)
    sampler.close()
    again = TransformersSampler(str(model_dir))
    sample(again, ["something else"], 3)
    assert sample(again, prompts, 8) == texts
    again.close()


def test_the_event_loop_stays_free(model_dir: Path) -> None:
    sampler = TransformersSampler(str(model_dir))

    async def both() -> int:
        calls = [
            asyncio.create_task(sampler.sample(["abc" * 20] * 20, 32, **{**SETTINGS, "max_tokens": 40}))
            for _ in range(2)
        ]
        ticks = 0
        while not all(call.done() for call in calls):
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    assert asyncio.run(both()) > 5
    sampler.close()


def test_a_cancelled_call_ends_soon(model_dir: Path) -> None:
    sampler = TransformersSampler(str(model_dir))
    sample(sampler, ["a"], 1)

    async def interrupted() -> None:
        call = asyncio.create_task(sampler.sample(["abc"] * 200, 64, **{**SETTINGS, "max_tokens": 200}))
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    start = time.monotonic()
    asyncio.run(interrupted())
    sampler.close()
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
