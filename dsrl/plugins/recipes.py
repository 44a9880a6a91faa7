"""The recipe of a base model: the file ``dsrl.toml`` beside its weights, with the numbers that suit the model.

Anybody can write the folder of a model. Therefore a recipe may set only the numbers in :data:`RECIPE_SETTINGS`, and may name
the tasks that the model was trained for::

    [train]
    learning_rate = 2e-4

    [model]
    tasks = ["mednli"]

A recipe cannot set a plugin, an option, a path or a text: these decide which code runs and where the user's keys are sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from dsrl.errors import SettingsError
from dsrl.settings import Settings, check, convert, default_of, find_setting
from dsrl.toml_files import parse_toml, read_toml_text

#: Maximum size of a recipe in bytes.
MAX_SIZE = 16 * 2**10
#: Maximum absolute value of a number in a recipe.
MAX_NUMBER = 1e9
#: Tables whose numbers a recipe may set.
_TABLES = ("score", "train")
#: Settings in other tables that a recipe may set.
_OTHER_SETTINGS = ("select",)


def _is_allowed(setting: Field[Any]) -> bool:
    is_number = isinstance(default_of(setting), (int, float)) and not isinstance(default_of(setting), bool)
    return is_number and (setting.metadata["section"] in _TABLES or setting.name in _OTHER_SETTINGS)


#: The settings that a recipe may set, by name.
RECIPE_SETTINGS: Mapping[str, Field[Any]] = {s.name: s for s in fields(Settings) if _is_allowed(s)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The content of a recipe.

    Attributes:
        settings: name of a setting -> number; the user's own settings are stronger.
        tasks: names of the tasks that the model was trained for; empty if the recipe does not name any.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


def read_recipe(path: Path) -> Recipe:
    """Read the recipe in a file.

    Raises:
        SettingsError: the file is too long, is not TOML, or sets something that a recipe may not set. The error names the
            file, the table and the key.
    """
    settings: dict[str, Any] = {}
    tasks: tuple[str, ...] = ()
    title = f"the base model's recipe {path}"
    for table, content in parse_toml(read_toml_text(path, title, MAX_SIZE), title).items():
        if not isinstance(content, Mapping):
            raise _make_refusal(path, f"the key {_escape(table)}, which is in no table")
        for key, value in content.items():
            if (table, key) == ("model", "tasks"):
                tasks = _read_tasks(path, value)
                continue
            setting = find_setting(table, key)
            if setting is None or setting.name not in RECIPE_SETTINGS:
                raise _make_refusal(path, f"[{_escape(table)}] {_escape(key)}")
            place = f"{title}, [{table}] {key}"
            if not isinstance(value, (int, float)):
                raise SettingsError(f"{place} must be a number")
            if not abs(value) <= MAX_NUMBER:
                raise SettingsError(f"{place} must be a number of at most {MAX_NUMBER:g}")
            number = convert(setting, value, place)
            check(setting, number, place)
            settings[setting.name] = number
        if not content and table != "model" and table not in {s.metadata["section"] for s in RECIPE_SETTINGS.values()}:
            raise _make_refusal(path, f"[{_escape(table)}]")
    return Recipe(settings, tasks)


def _read_tasks(path: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise SettingsError(f"the base model's recipe {path}, [model] tasks must be a list of task names")
    return tuple(value)


def _make_refusal(path: Path, key: str) -> SettingsError:
    by_table: dict[str, list[str]] = {}
    for name, setting in RECIPE_SETTINGS.items():
        by_table.setdefault(setting.metadata["section"], []).append(name)
    allowed = "; ".join(f"[{table}] {', '.join(keys)}" for table, keys in by_table.items())
    return SettingsError(
        f"the base model's recipe {path} sets {key}. A recipe may only set numbers ({allowed}) and name the tasks that "
        "the model was trained for ([model] tasks). Remove everything else from that file; if you want it, set it "
        "yourself, with a flag or in a settings file (--config)"
    )


def _escape(text: str, max_length: int = 60) -> str:
    # Anybody may have written this text, and it is printed on a terminal.
    return ascii(text)[1:-1][:max_length]
