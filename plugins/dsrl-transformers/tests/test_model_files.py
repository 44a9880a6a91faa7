from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from dsrl_transformers import model_files
from dsrl_transformers.model_files import check_model

from dsrl import DataError


def test_facts_of_a_folder(model_dir: Path) -> None:
    facts = check_model(str(model_dir))
    assert facts.context == 256
    assert facts.weight_bytes == (model_dir / "model.safetensors").stat().st_size
    assert facts.itemsize == 4


def test_weights_of_another_type_than_the_configuration_says(model_dir: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(model_dir, tmp_path / "model"))
    weights = {key: weight.to(torch.bfloat16) for key, weight in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    facts = check_model(str(folder))
    assert facts.itemsize == 2
    assert facts.weights == check_model(str(model_dir)).weights == sum(w.numel() for w in weights.values())


def test_a_model_in_the_cache_needs_no_hub(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(model_files, "_call_within", lambda *_: pytest.fail("the hub is asked"))
    cached = tmp_path / "models--owner--random"
    shutil.copytree(model_dir, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert check_model("owner/random") == check_model(str(model_dir))


@pytest.mark.parametrize("name", ["a--b/c", "owner/..", "owner/name.git"])
def test_a_name_that_no_model_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=name):
        check_model(name)


def test_a_pipe_is_not_waited_for(model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copytree(model_dir, folder)
        (folder / file).unlink()
        os.mkfifo(folder / file)
        with pytest.raises(DataError):
            check_model(str(folder))
        shutil.rmtree(folder)


def test_what_does_not_end_is_left_alone() -> None:
    with pytest.raises(DataError, match=r"it did not answer within 0.05 s"):
        model_files._call_within(0.05, lambda: time.sleep(2), "it")
    with pytest.raises(ZeroDivisionError):
        model_files._call_within(5.0, lambda: 1 // 0, "it")
    assert model_files._call_within(5.0, lambda: 3, "it") == 3
