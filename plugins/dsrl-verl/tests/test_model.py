"""verl's weights in the place of the base model's."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from dsrl_verl.model import load_weights, save_model

from dsrl import DsrlError, TrainJob


def find_tiny() -> Path:
    spec = find_spec("dsrl_transformers.tiny")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@pytest.fixture
def base() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(find_tiny(), dtype=torch.float32)


@pytest.fixture
def checkpoint(base: Any, tmp_path: Path) -> Path:
    """A checkpoint as verl writes it: with a template of its own, and other weights."""
    from transformers import AutoTokenizer

    folder = tmp_path / "global_step_2" / "actor" / "huggingface"
    with torch.no_grad():
        for weight in base.parameters():
            weight.add_(0.125)
    base.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(find_tiny())
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(folder)
    return tmp_path / "global_step_2"


MakeJob = Callable[..., TrainJob]


def test_only_the_weights_are_taken(make_job: MakeJob, checkpoint: Path) -> None:
    from safetensors.torch import load_file

    job = make_job(model=str(find_tiny()))
    save_model(job, checkpoint)
    trained, before = (load_file(folder / "model.safetensors") for folder in (job.output_dir, find_tiny()))
    # The output layer is the embedding, so transformers does not write it a second time.
    assert trained.keys() == before.keys() - {"lm_head.weight"}
    assert all(torch.equal(trained[name], before[name].float() + 0.125) for name in trained)
    assert {value.dtype for value in trained.values()} == {torch.float32}, "the type in the configuration"
    own = {path.name for path in job.output_dir.iterdir()}
    assert own <= {path.name for path in find_tiny().iterdir()}
    assert "chat_template" not in (job.output_dir / "tokenizer_config.json").read_text()


def test_weights_of_another_model_are_refused(base: Any) -> None:
    weights = dict(base.state_dict())
    load_weights(base, weights)
    name = next(iter(weights))
    with pytest.raises(DsrlError, match="does not have: odd"):
        load_weights(base, {**weights, "odd": torch.zeros(1)})
    with pytest.raises(DsrlError, match="of another shape"):
        load_weights(base, {**weights, name: torch.zeros(1)})
    with pytest.raises(DsrlError, match="has not saved all weights"):
        load_weights(base, {key: value for key, value in weights.items() if "layers.1" not in key})


def test_a_tied_weight_is_saved_once(base: Any) -> None:
    weights = {name: value for name, value in base.state_dict().items() if name != "lm_head.weight"}
    load_weights(base, weights)


def test_a_checkpoint_without_a_model_and_one_with_infinite_weights_are_refused(
    make_job: MakeJob, checkpoint: Path
) -> None:
    from safetensors.torch import load_file, save_file

    job = make_job(model=str(find_tiny()))
    file = checkpoint / "actor" / "huggingface" / "model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    weights[name][0] = float("nan")
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(DsrlError, match="not all finite numbers"):
        save_model(job, checkpoint)
    file.unlink()
    with pytest.raises(DsrlError, match="has no model"):
        save_model(job, checkpoint)
    assert not job.output_dir.exists()
