"""Whether a folder holds a whole model, found out without a library for models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from dsrl.pipeline.model_folder import find_fault, has_chat_template, set_usual_modes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = find_spec("dsrl_transformers.tiny")
    assert spec is not None
    (source,) = spec.submodule_search_locations or ()
    return Path(shutil.copytree(source, tmp_path / "model"))


def header_of(path: Path) -> tuple[bytes, int]:
    content = path.read_bytes()
    return content, int.from_bytes(content[:8], "little")


def cut_weights(model: Path) -> None:
    content, _ = header_of(model / "model.safetensors")
    (model / "model.safetensors").write_bytes(content[:-1])


def no_tensors(model: Path) -> None:
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def endless_header(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")


def lost_shard(model: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def empty_bin(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"")


def no_tokenizer(model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "there is no such folder"),
        (lambda model: (model / "config.json").unlink(), "config.json is missing"),
        (lambda model: (model / "config.json").write_bytes(b"\xff{"), "no JSON object"),
        (lambda model: (model / "config.json").write_text("[" * 100_000), "no JSON object"),
        (lambda model: (model / "model.safetensors").unlink(), "no weights"),
        (lambda model: (model / "model.safetensors").write_bytes(b""), "model.safetensors is no whole file"),
        (cut_weights, "model.safetensors is no whole file"),
        (no_tensors, "model.safetensors is no whole file"),
        (endless_header, "model.safetensors is no whole file"),
        (lost_shard, "model-2.safetensors is missing"),
        (empty_bin, "no weights"),
        (no_tokenizer, "no tokenizer"),
    ],
)
def test_a_folder_without_a_whole_model_has_a_fault(model: Path, damage: Callable[[Path], object], words: str) -> None:
    assert find_fault(model) is None
    damage(model)
    fault = find_fault(model)
    assert fault is not None
    assert words in fault


def test_a_model_may_consist_of_shards_that_an_index_names(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    shutil.copy(model / "model-1.safetensors", model / "model-2.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    assert find_fault(model) is None
    index.write_text(json.dumps({"weight_map": ["model-1.safetensors"]}))
    assert find_fault(model) == "model.safetensors.index.json is no index of weights"


def test_a_chat_template_is_a_file_or_a_setting_of_the_tokenizer(tmp_path: Path) -> None:
    assert not has_chat_template(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    for text, expected in (
        ("{}", False),
        ('{"chat_template": ""}', False),
        ("[1", False),
        ('{"chat_template": "x"}', True),
    ):
        settings.write_text(text, encoding="utf-8")
        assert has_chat_template(tmp_path) is expected, text
    settings.unlink()
    (tmp_path / "chat_template.jinja").touch()
    assert has_chat_template(tmp_path)


def test_files_that_only_their_owner_can_read_get_the_usual_mode(model: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").touch(0o600)
    (model / "link").symlink_to(tmp_path / "outside")
    (model / "model.safetensors").chmod(0o600)
    model.chmod(0o755)
    set_usual_modes(model)
    assert (model / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o600, "a link is not followed"
