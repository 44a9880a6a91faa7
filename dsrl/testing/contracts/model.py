"""The contract class of packages that ship a base model, and the tests of a model's folder."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.checks import check_plugin
from dsrl.plugins.discovery import list_plugins


def check_model_folder(folder: Path) -> None:
    """Check that a folder holds a model in Hugging Face form with its tokenizer; load both if transformers is installed.

    Raises:
        AssertionError: it does not.
        DataError: a file is missing.
    """
    resolve_model(str(folder))
    assert any(folder.glob("tokenizer*")), f"{folder} holds no tokenizer"
    if find_spec("transformers") is None:
        return
    transformers: Any = import_module("transformers")  # dsrl itself does not depend on it
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("a", return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.isfinite().all(), f"the logits of {folder} are not numbers"


class ModelContract:
    """Tests of every package that ships a base model.

    Attributes:
        plugin: the name of the model.
    """

    plugin: str = ""

    def test_the_folder_and_its_recipe_can_be_read(self) -> None:
        (info,) = [info for info in list_plugins("model") if info.name == self.plugin]
        assert check_plugin(info) == []

    def test_the_model_can_be_loaded(self) -> None:
        check_model_folder(Path(resolve_model(self.plugin).location))
