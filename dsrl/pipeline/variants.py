"""Variants of a run: the settings that an ablation changes one by one (the paper's Table 4), and how they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from dsrl.errors import SettingsError
from dsrl.pipeline.setup import find_trainer_settings
from dsrl.settings import ONLINE, SELECTIONS, Settings, check, default_of

#: Settings that change what the samples are. ``pattern`` is none of a run: only a variant can leave the pattern out.
SAMPLE_SETTINGS = ("adapt", "votes", "pattern")
#: Tables whose settings act only when the samples are there.
_LATER_TABLES = ("selection", "train")
_ALLOWED = {
    s.name: s
    for s in fields(Settings)
    if (s.metadata["section"] in _LATER_TABLES and s.metadata["type"] in (str, int, float, bool))
    or s.name in SAMPLE_SETTINGS
    if s.name != "output_model"
}
_SWITCH = {"on": True, "off": False}
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Variant:
    """A run with other settings.

    Attributes:
        name: what differs, as the user writes it: ``selection=random``, ``select=100+balance=on``.
        settings: setting -> value.
        without_pattern: whether the samples are written without the pattern of the demonstrations.
    """

    name: str
    settings: Mapping[str, Any]
    without_pattern: bool = False

    @property
    def folder(self) -> str:
        """The beginning of the names of its folders."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name)[:_LONGEST_NAME]

    @property
    def changes_samples(self) -> bool:
        """Whether its samples are not those of the run."""
        return self.without_pattern or any(name in SAMPLE_SETTINGS for name in self.settings)

    def apply(self, settings: Settings) -> Settings:
        """Return the settings of a run with those of the variant."""
        own: dict[str, Any] = {}
        if "trainer" in self.settings:
            own = {"trainer_option": {}, **find_trainer_settings(self.settings["trainer"])}
        if self.settings.get("selection") == ONLINE and not settings.min_agreement:
            # To a trainer that chooses, a wrong label looks like a hard problem.
            own["min_agreement"] = Settings.min_agreement
        return replace(settings, **{**own, **self.settings})


def parse_variant(text: str) -> Variant:
    """Read a variant: ``NAME=VALUE``, or several of them joined by ``+``.

    Raises:
        SettingsError: there is no such setting, it cannot be changed in a variant, or its value is not possible.
    """
    settings: dict[str, Any] = {}
    without_pattern = False
    for part in text.split("+"):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or not value:
            raise SettingsError(
                f"--variants {text!r}: write NAME=VALUE, e.g. selection=random, select=100 or adapt=off"
            )
        if name == "pattern":
            if value != "off":
                raise SettingsError(f"--variants {text!r}: pattern can only be off")
            without_pattern = True
        else:
            settings[name] = _read_value(name, value, text)
    return Variant(text.strip(), settings, without_pattern)


def _read_value(name: str, value: str, text: str) -> Any:
    setting = _ALLOWED.get(name)
    if setting is None:
        near = get_close_matches(name, [*_ALLOWED, "pattern"], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it can be one of pattern, {', '.join(_ALLOWED)}"
        raise SettingsError(f"--variants {text!r}: a variant cannot change {name!r}; {hint}")
    kind, place = setting.metadata["type"], f"--variants {name}"
    if kind is bool:
        if value not in _SWITCH:
            raise SettingsError(f"{place} is {value!r}, but must be on or off")
        return _SWITCH[value]
    try:
        converted = kind(value)
    except ValueError:
        raise SettingsError(f"{place} is {value!r}, but must be a number like {default_of(setting)}") from None
    check(setting, converted, place)
    return converted


def list_default_variants(settings: Settings, scored: int, has_pattern: bool) -> list[Variant]:
    """Return the variants of the paper's Table 4 that differ from a run, in its order, and fewer votes.

    Args:
        settings: the settings of the run.
        scored: the number of its scored samples.
        has_pattern: whether its samples were written with a pattern.
    """
    largest = min(settings.select, scored)
    sizes = dict.fromkeys(max(1, largest * share // 5) for share in (1, 3))
    names = [f"select={size}" for size in sizes if size < largest]
    if settings.select < scored:
        names += [f"select={min(2 * settings.select, scored)}"]
        names += [f"selection={rule}" for rule in SELECTIONS if rule != settings.selection]
    names += ["pattern=off"] if has_pattern else []
    names += ["adapt=off"] if settings.adapt else []
    names += [f"votes={votes}" for votes in dict.fromkeys((settings.votes // 4, settings.votes // 2)) if votes]
    return [parse_variant(name) for name in names]


def parse_variants(texts: Sequence[str]) -> list[Variant]:
    """Read the values of ``--variants``, each of which may hold several, separated by commas; a repeated one counts once.

    Raises:
        SettingsError: as in :func:`parse_variant`; or two variants would have the same folder.
    """
    variants = {part.strip(): parse_variant(part) for text in texts for part in text.split(",") if part.strip()}
    folders: dict[str, str] = {}
    for name, variant in variants.items():
        if folders.setdefault(variant.folder, name) != name:
            raise SettingsError(
                f"--variants: {folders[variant.folder]!r} and {name!r} are too much alike; leave one out"
            )
    return list(variants.values())
