"""Base models by name: a model that a package ships, a folder, or a hub id.

A package ships a model with an entry point of the group ``dsrl.models``. Its value is the folder of the model in dotted form
(``tiny = "dsrl_transformers.tiny"``). Beside the weights there may be a ``dsrl.toml`` with the numbers that suit the model;
the user's own settings are stronger (see :mod:`dsrl.plugins.recipes`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from dsrl.errors import DataError, PluginError
from dsrl.plugins.recipes import Recipe, read_recipe
from dsrl.plugins.specs import KINDS

RECIPE = "dsrl.toml"
_GGUF_HINT = (
    "GGUF files cannot be trained: give the same model in Hugging Face form (config.json, *.safetensors, tokenizer)"
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Model:
    """A base model.

    Attributes:
        location: a folder, or a hub id that the sampler's library resolves.
        recipe: the numbers that the model's folder gives, and the tasks that the model was trained for.
    """

    location: str
    recipe: Recipe = field(default_factory=Recipe)


def list_shipped_models() -> list[str]:
    """Return the names of the models that packages ship."""
    return sorted({entry.name for entry in entry_points(group=KINDS["model"].group)})


def resolve_model(name: str) -> Model:
    """Find a model by its name: the name of a shipped model, a folder, or a hub id, in this order.

    Raises:
        DataError: there is no such model, or the folder does not hold a model.
        PluginError: several distributions ship a model of this name.
        SettingsError: the recipe of the model sets what a model may not set.
    """
    entries = entry_points(group=KINDS["model"].group)
    shipped = {entry.name: entry.value for entry in entries}
    if name in shipped:
        owners = [entry.dist.name for entry in entries if entry.name == name and entry.dist]
        if len(owners) > 1:
            raise PluginError(f"base model {name!r} is declared by {' and '.join(owners)}; uninstall one of them")
        try:
            spec = find_spec(shipped[name])
        except ImportError:
            spec = None
        for place in (spec.submodule_search_locations or []) if spec else []:
            return _folder(name, Path(place))
        raise DataError(
            f"base model {name!r}: its package names the folder {shipped[name]!r}, which does not exist; reinstall it"
        )
    path = Path(name)
    if os.path.exists(path):  # unlike Path.exists, this does not raise for a name that is too long
        return _folder(name, path)
    if _HUB_ID.fullmatch(name):
        return Model(name)
    hint = f"installed models: {', '.join(sorted(shipped))}" if shipped else "no model package is installed"
    raise DataError(
        f"base model {name!r} is neither an installed model, nor a folder, nor a hub id of the form owner/name; {hint}. "
        "Give the folder of a model in Hugging Face form with --base-model."
    )


def _folder(name: str, path: Path) -> Model:
    if not path.is_dir():
        hint = _GGUF_HINT if path.suffix == ".gguf" else "give the folder that holds config.json and the weights"
        raise DataError(f"base model {name!r} is a file; {hint}")
    has_gguf = next(path.glob("*.gguf"), None) is not None
    if not (path / "config.json").is_file():
        reason, hint = "so the folder holds no model", "give the folder of a model in Hugging Face form"
        if (path / "adapter_config.json").is_file():
            reason = "because the folder holds a LoRA adapter and not a model"
            hint = (
                "merge the adapter into its model (merge_and_unload of peft), and give the folder of the merged model"
            )
        elif has_gguf:
            hint = _GGUF_HINT
        raise DataError(f"base model {name!r}: {path}/config.json does not exist, {reason}; {hint}")
    if not any(next(path.glob(f"*.{kind}"), None) for kind in ("safetensors", "bin")):
        hint = _GGUF_HINT if has_gguf else "fetch the model again"
        raise DataError(f"base model {name!r}: {path} holds a config.json but no weights (*.safetensors); {hint}")
    recipe = path / RECIPE
    return Model(str(path), read_recipe(recipe) if recipe.is_file() else Recipe())
