from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError, DsrlError
from dsrl.plugins.base_models import Model, resolve_model
from dsrl.plugins.recipes import Recipe


def made(folder: Path, *files: str) -> Path:
    """Make a model's folder with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).write_text("{}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("weights", ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"])
def test_a_folder_is_a_model(tmp_path: Path, weights: str) -> None:
    folder = made(tmp_path / "m", "config.json", weights)
    assert resolve_model(str(folder)) == Model(str(folder))


def test_a_recipe_beside_the_weights_is_found(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "config.json", "model.safetensors")
    (folder / "dsrl.toml").write_text("[score]\nattempts = 8\n[model]\ntasks = ['mednli', 'gsm8k']\n", encoding="utf-8")
    assert resolve_model(str(folder)).recipe == Recipe({"attempts": 8}, ("mednli", "gsm8k"))


def test_a_model_with_a_wrong_recipe_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "config.json", "model.safetensors")
    (folder / "dsrl.toml").write_text("[score]\nname = 'openai'\n", encoding="utf-8")
    with pytest.raises(DsrlError, match=r"dsrl\.toml sets \[score\] name"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    ("files", "words"),
    [((), "config.json does not exist"), (("config.json",), "no weights"), (("model.safetensors",), "config.json")],
)
def test_a_folder_without_a_model_is_told(tmp_path: Path, files: tuple[str, ...], words: str) -> None:
    folder = made(tmp_path / "m", *files)
    with pytest.raises(DataError) as caught:
        resolve_model(str(folder))
    assert str(folder) in str(caught.value)
    assert words in str(caught.value)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    path = made(tmp_path, "model.safetensors") / "model.safetensors"
    with pytest.raises(DataError, match="is a file; give the folder"):
        resolve_model(str(path))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ("adapter_config.json", "adapter_model.safetensors"),
            "holds a LoRA adapter and not a model; merge the adapter",
        ),
        (("m-Q4_K_M.gguf",), "so the folder holds no model; GGUF files cannot be trained"),
        (("config.json", "m-Q4_K_M.gguf"), "no weights (*.safetensors); GGUF files cannot be trained"),
    ],
)
def test_a_folder_with_a_model_of_another_form_is_told(tmp_path: Path, files: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError) as caught:
        resolve_model(str(made(tmp_path / "m", *files)))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B", "meta-llama/Llama-3.2-3B"])
def test_a_hub_id_is_left_to_the_sampler(name: str) -> None:
    assert resolve_model(name) == Model(name)


@pytest.mark.parametrize("name", ["tinny", "./models/gone", "/gone/model", "a/b/c", "", "models/", "x" * 300])
def test_a_name_that_is_nothing_is_told_with_what_is_installed(name: str) -> None:
    with pytest.raises(DataError) as caught:
        resolve_model(name)
    assert "installed" in str(caught.value) or "holds no model" in str(caught.value)


def test_an_installed_model_is_found_by_its_name(install: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "site0" / "shipped" / "small", "config.json", "model.safetensors")
    (folder / "dsrl.toml").write_text("[train]\nepochs = 2\n", encoding="utf-8")
    (folder.parent / "__init__.py").write_text("", encoding="utf-8")
    install("model", "small", "", value="shipped.small")
    assert resolve_model("small") == Model(str(folder), Recipe({"epochs": 2}))


@pytest.mark.parametrize("value", ["shipped_nowhere", "shipped_nowhere.small", "json.small"])
def test_an_installed_model_that_is_gone_is_told(install: Any, value: str) -> None:
    install("model", "small", "", value=value)
    with pytest.raises(DsrlError, match="base model 'small'"):
        resolve_model("small")


def test_a_model_name_that_clashes_names_both_distributions(install: Any, tmp_path: Path) -> None:
    for number, distribution in enumerate(("first-models", "second-models")):
        folder = made(tmp_path / f"site{number}" / f"shipped{number}", "config.json", "model.safetensors")
        (folder / "__init__.py").write_text("", encoding="utf-8")
        install("model", "small", "", distribution=distribution, value=folder.name)
    with pytest.raises(DsrlError, match=r"first-models.*second-models|second-models.*first-models"):
        resolve_model("small")
