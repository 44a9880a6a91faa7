"""A base model's recipe: the ``dsrl.toml`` beside its weights, with the numbers that suit it.

A model is a stranger's folder. Its recipe may set numbers only, those of :data:`RECIPE_SETTINGS`, and may name the tasks
that the model was schooled for::

    [train]
    learning_rate = 2e-4

    [model]
    tasks = ["mednli"]

No plugin, no option, no path and no text is taken from it: these decide what is run, and where the user's keys go.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from dsrl.errors import SettingsError
from dsrl.settings import Settings, check, convert, default_of, find_setting

#: Longest recipe, in bytes.
LONGEST = 16 * 2**10
#: Largest number in it.
LARGEST = 1e9
#: Tables whose numbers a recipe may set, and the one number of another table.
_TABLES = ("score", "train")
_ALSO = ("select",)


def _may_set(setting: Field[Any]) -> bool:
    is_number = isinstance(default_of(setting), (int, float)) and not isinstance(default_of(setting), bool)
    return is_number and (setting.metadata["section"] in _TABLES or setting.name in _ALSO)


#: The settings that a recipe may give, by name.
RECIPE_SETTINGS: Mapping[str, Field[Any]] = {s.name: s for s in fields(Settings) if _may_set(s)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What came with a base model.

    Attributes:
        settings: name of a field of ``Settings`` -> number; weaker than the user's own.
        tasks: names of the tasks that the model was schooled for; empty: it does not say.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        SettingsError: it is too long, no TOML, or sets what a model may not set; names the file, the table and the key.
    """
    settings: dict[str, Any] = {}
    tasks: tuple[str, ...] = ()
    for table, content in _document(path).items():
        if not isinstance(content, Mapping):
            raise _refused(path, f"the key {_shown(table)}, which stands in no table")
        for key, value in content.items():
            if (table, key) == ("model", "tasks"):
                tasks = _tasks(path, value)
                continue
            setting = find_setting(table, key)
            if setting is None or setting.name not in RECIPE_SETTINGS:
                raise _refused(path, f"[{_shown(table)}] {_shown(key)}")
            place = f"the base model's recipe {path}, [{table}] {key}"
            if not isinstance(value, (int, float)):
                raise SettingsError(f"{place} must be a number")
            if not abs(value) <= LARGEST:
                raise SettingsError(f"{place} must be a number of at most {LARGEST:g}")
            number = convert(setting, value, place)
            check(setting, number, place)
            settings[setting.name] = number
        if not content and table != "model" and table not in {s.metadata["section"] for s in RECIPE_SETTINGS.values()}:
            raise _refused(path, f"[{_shown(table)}]")
    return Recipe(settings, tasks)


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise SettingsError(f"the base model's recipe {path} cannot be read: {error.strerror}") from error
    if len(content) > LONGEST:
        raise SettingsError(f"the base model's recipe {path} is longer than {LONGEST // 2**10} KiB; mend or remove it")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise SettingsError(f"the base model's recipe {path} is nested too deeply; mend or remove it") from error
    except ValueError as error:  # not TOML, not UTF-8, a number of thousands of digits
        raise SettingsError(f"the base model's recipe {path} is not TOML: {_shown(str(error), 200)}") from error


def _tasks(path: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise SettingsError(f"the base model's recipe {path}, [model] tasks must be a list of names of tasks")
    return tuple(value)


def _refused(path: Path, what: str) -> SettingsError:
    by_table: dict[str, list[str]] = {}
    for name, setting in RECIPE_SETTINGS.items():
        by_table.setdefault(setting.metadata["section"], []).append(name)
    allowed = "; ".join(f"[{table}] {', '.join(keys)}" for table, keys in by_table.items())
    return SettingsError(
        f"the base model's recipe {path} sets {what}. A model may set numbers only ({allowed}) and name the tasks that it "
        "was schooled for ([model] tasks). Remove the rest from that file; give it yourself, by a flag or with --config, "
        "if you want it"
    )


def _shown(text: str, longest: int = 60) -> str:
    # Escaped and cut: a stranger's words go to a terminal here.
    return ascii(text)[1:-1][:longest]
