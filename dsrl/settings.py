"""A run's settings, each in one place: its default, its name in a settings file, its flag, its help.

Weakest to strongest: the paper's values, the base model's own recipe (``dsrl.toml`` beside its weights, numbers only, see
:mod:`dsrl.plugins.recipes`), the settings file (``--config``), flags. What came out is kept in the run's ``run.db`` and
copied to its ``run.toml``, which is a settings file again.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from dsrl.errors import SettingsError
from dsrl.keys import refuse_keys
from dsrl.types import Purpose

SELECTIONS = ("potential", "random", "easy", "hard", "full")
#: Tables of run.toml that are told, not set.
TOLD = ("versions",)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _setting(
    default: Any,
    section: str,
    help: str,
    key: str = "",
    flag: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    resumable: bool = False,
) -> Any:
    """Declare a setting.

    Args:
        default: its value where nobody says otherwise.
        section: its table in a settings file.
        help: one line for ``--help`` and the documentation.
        key: its name in the table; the field's name if empty.
        flag: its flag; made of the field's name if empty.
        low, high: bounds, included.
        choices: the values that are possible.
        same_data: a run may go on under another value of it.
    """
    meta: dict[str, Any] = {"section": section, "help": help, "key": key, "flag": flag, "low": low, "high": high}
    meta |= {"choices": choices, "same_data": resumable}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Settings:
    """All settings of a run. Defaults are the paper's (section 4, appendix A.3) where it has them."""

    name: str = _setting("", "run", "Name of the run (experiment); default: made of task and settings.")
    seed: int = _setting(0, "run", "Seed of everything random.", low=0, high=2**31 - 1)
    iterations: int = _setting(1, "run", "Rounds; each next one starts from the trained model.", low=1, high=1000)

    task: str = _setting("", "task", "Task: an installed name.", key="name")
    task_instruction: str = _setting("", "task", "Task description, instead of the task's own.", key="instruction")
    dataset_path: str = _setting(
        "", "task", "Real items to evaluate on: a DatasetDict folder, a JSONL file, a hub id.", resumable=True
    )
    test_size: int = _setting(
        0, "task", "Evaluate on the first so many test items; 0: all of them.", low=0, resumable=True
    )
    domain: tuple[str, ...] = _setting((), "task", "Domain to search passages for; may be repeated.")
    demos: str = _setting("", "task", "JSON or JSONL file of demonstrations with input and output.")
    override: tuple[str, ...] = _setting((), "task", "Python file whose task hooks win for this run; may be repeated.")
    task_options: Mapping[str, Any] = _setting(
        {}, "task", "KEY=VALUE for the task plugin.", key="options", flag="--task-option"
    )

    retriever: str = _setting("bm25", "retrieval", "Retriever plugin.", key="name")
    corpus: tuple[str, ...] = _setting((), "retrieval", "Passage library, file or folder; may be repeated.")
    max_bad: float = _setting(
        0.01, "retrieval", "Share of unusable lines of a library that is borne.", low=0.0, high=1.0
    )
    passages: int = _setting(10_000, "retrieval", "Passages to find at most.", low=1)
    retriever_options: Mapping[str, Any] = _setting(
        {}, "retrieval", "KEY=VALUE for the retriever plugin.", key="options", flag="--retriever-option"
    )

    teacher: str = _setting("procedural", "teacher", "Teacher plugin, NAME or NAME:MODEL.", key="name")
    teacher_temperature: float = _setting(
        0.7, "teacher", "Temperature of the teacher.", key="temperature", low=0.0, high=2.0
    )
    teacher_max_tokens: int = _setting(2048, "teacher", "Length limit of a reply, tokens.", key="max_tokens", low=1)
    teacher_options: Mapping[str, Any] = _setting(
        {}, "teacher", "KEY=VALUE for the teacher plugin.", key="options", flag="--teacher-option"
    )
    solve_teacher: str = _setting("", "teacher", "Teacher that votes, NAME or NAME:MODEL; default: --teacher.")
    solve_teacher_options: Mapping[str, Any] = _setting(
        {}, "teacher", "KEY=VALUE for it; default: --teacher-option.", flag="--solve-teacher-option"
    )
    rewrite_teacher: str = _setting("", "teacher", "Teacher that rewrites, NAME or NAME:MODEL; default: --teacher.")
    rewrite_teacher_options: Mapping[str, Any] = _setting(
        {}, "teacher", "KEY=VALUE for it; default: --teacher-option.", flag="--rewrite-teacher-option"
    )
    votes: int = _setting(16, "teacher", "Votes a sample at most, beside its own answer; 0: no verification.", low=0)
    vote_confidence: float = _setting(
        0.0,
        "teacher",
        "Stop voting at this confidence; 0: when the label cannot change any more.",
        low=0.0,
        high=0.999999,
    )
    retries_unreadable: int = _setting(
        0, "teacher", "Ask anew for a sample that cannot be read, so many times.", low=0, high=3
    )
    concurrency: int = _setting(
        128, "teacher", "Requests under way at once to one provider, at most.", low=1, resumable=True
    )
    requests_per_minute: int = _setting(
        0, "teacher", "Limit of each provider; 0: what it says itself.", low=0, resumable=True
    )
    tokens_per_minute: int = _setting(
        0, "teacher", "Limit of each provider, prompt and completion; 0: what it says itself.", low=0, resumable=True
    )
    budget: float = _setting(
        math.inf, "teacher", "Dollars that the run may cost at most, all sittings.", low=0.0, resumable=True
    )
    price: tuple[str, ...] = _setting(
        (), "teacher", "MODEL=PROMPT,COMPLETION in dollars per million tokens; may be repeated.", resumable=True
    )
    batch: bool = _setting(False, "teacher", "Ask in the provider's batches: cheaper, and hours later.", resumable=True)

    samples: int = _setting(500, "synthesis", "N: initial samples.", low=1, high=1_000_000)
    adapt: bool = _setting(True, "synthesis", "Rewrite solved samples harder and unsolved ones easier.")

    base_model: str = _setting("tiny", "score", "Base model: an installed name, a folder, a hub id.")
    sampler: str = _setting("transformers", "score", "Sampler plugin; it runs the base model.", key="name")
    attempts: int = _setting(64, "score", "L: attempts a sample for its pass rate.", low=1)
    attempt_temperature: float = _setting(
        0.7, "score", "Temperature of the attempts.", key="temperature", low=0.01, high=10.0
    )
    sampler_options: Mapping[str, Any] = _setting(
        {}, "score", "KEY=VALUE for the sampler plugin.", key="options", flag="--sampler-option"
    )

    select: int = _setting(500, "selection", "M: samples to train on.", key="size", low=1)
    selection: str = _setting(
        "potential",
        "selection",
        "Which M: the paper's lowest score, or its ablations.",
        key="rule",
        choices=SELECTIONS,
    )

    trainer: str = _setting("grpo", "train", "Trainer plugin.", key="name")
    output_model: str = _setting(
        "", "train", "Folder for the trained model; default: in the run's folder.", resumable=True
    )
    learning_rate: float = _setting(1e-6, "train", "Peak learning rate.", low=0.0, high=1.0)
    epochs: int = _setting(5, "train", "Passes over the selected samples.", low=1)
    batch_size: int = _setting(64, "train", "Prompts a step.", low=1)
    group_size: int = _setting(16, "train", "Answers a prompt (the group of GRPO).", low=2)
    train_temperature: float = _setting(
        1.2, "train", "Temperature of the training answers.", key="temperature", low=0.01, high=10.0
    )
    train_top_p: float = _setting(1.0, "train", "Nucleus of the training answers.", key="top_p", low=0.01, high=1.0)
    kl_coef: float = _setting(0.01, "train", "Weight of the KL term against the base model.", low=0.0)
    max_completion_tokens: int = _setting(2048, "train", "Length limit of an answer of the base model, tokens.", low=1)
    max_prompt_tokens: int = _setting(2048, "train", "Longer prompts are not trained on.", low=1)
    lora_rank: int = _setting(0, "train", "Train LoRA adapters of this rank; 0: all weights.", low=0)
    trainer_options: Mapping[str, Any] = _setting(
        {}, "train", "KEY=VALUE for the trainer plugin.", key="options", flag="--trainer-option"
    )

    device: str = _setting("auto", "compute", "Device of the base model: auto, cpu, cuda, cuda:1.")
    dtype: str = _setting(
        "auto", "compute", "Number format of the base model.", choices=("auto", "float32", "bfloat16", "float16")
    )

    def teacher_of(self, purpose: Purpose) -> tuple[str, str, Mapping[str, Any]]:
        """Give plugin, model (may be empty) and options of the teacher that does a job."""
        named, options = self.teacher, self.teacher_options
        own = {"solve": self.solve_teacher, "rewrite": self.rewrite_teacher}.get(purpose, "")
        own_options = {"solve": self.solve_teacher_options, "rewrite": self.rewrite_teacher_options}.get(purpose, {})
        if own:
            # Another plugin has other options; another model of the same is on the same server.
            same = own.partition(":")[0] == named.partition(":")[0]
            named, options = own, options if same else {}
        name, _, model = named.partition(":")
        return name, model, own_options or options


def key_of(setting: Field[Any]) -> str:
    """Give the name of a setting in its table of a settings file."""
    return setting.metadata["key"] or setting.name


def flag_of(setting: Field[Any]) -> str:
    """Give the flag of a setting on the command line."""
    return setting.metadata["flag"] or "--" + setting.name.replace("_", "-")


_BY_PLACE = {(f.metadata["section"], key_of(f)): f for f in fields(Settings)}
_SECTIONS = tuple(dict.fromkeys(f.metadata["section"] for f in fields(Settings)))


def read_settings(path: Path) -> dict[str, Any]:
    """Read a settings file; give field name -> value of what it sets.

    Raises:
        SettingsError: names the file, the table and the key.
    """
    try:
        return parse_settings(path.read_text(encoding="utf-8-sig"), f"settings file {path}")
    except FileNotFoundError as error:
        raise SettingsError(f"settings file {path} is not there") from error
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from error


def parse_settings(text: str, source: str) -> dict[str, Any]:
    """Read the text of a settings file; give field name -> value of what it sets.

    Raises:
        SettingsError: names ``source``, the table and the key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source} is not TOML: {error}") from error
    values: dict[str, Any] = {}
    for section, table in document.items():
        if section in TOLD:
            continue
        if section not in _SECTIONS or not isinstance(table, Mapping):
            raise SettingsError(f"{source}: no table [{section}]; there are {_listed(_SECTIONS)}")
        for key, value in table.items():
            setting = _BY_PLACE.get((section, key))
            if setting is None:
                keys = [k for s, k in _BY_PLACE if s == section]
                near = difflib.get_close_matches(key, keys, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {_listed(keys)}"
                raise SettingsError(f"{source}: no setting {key!r} in [{section}]; {hint}")
            values[setting.name] = typed(setting, value, f"{source}, [{section}] {key}")
    return values


def resolve(*layers: Mapping[str, Any]) -> Settings:
    """Lay settings over the defaults, weakest first, and check them.

    Raises:
        SettingsError: names the setting and what it may be.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    settings = Settings(**merged)
    for setting in fields(Settings):
        checked(setting, getattr(settings, setting.name))
    if not settings.task:
        raise SettingsError("no task is named; give --task NAME (`dsrl tasks` lists what is installed)")
    if not settings.name:
        return replace(settings, name=_made_name(settings))
    if not _NAME.fullmatch(settings.name):
        raise SettingsError(
            f"--name {settings.name!r}: a run's name is a folder's name of letters, digits, dots, dashes, underscores"
        )
    return settings


def to_toml(settings: Settings) -> dict[str, dict[str, Any]]:
    """Give the settings as the tables of a settings file; what is unset (empty) is left out."""
    tables: dict[str, dict[str, Any]] = {}
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        if value in ("", (), {}, math.inf):
            continue
        table = tables.setdefault(setting.metadata["section"], {})
        table[key_of(setting)] = list(value) if isinstance(value, tuple) else value
    return tables


def differences(old: Settings, new: Settings) -> list[str]:
    """Name the settings that keep a run from going on under ``new``, as ``flag: old -> new``."""
    return [
        f"{flag_of(s)}: {getattr(old, s.name)!r} -> {getattr(new, s.name)!r}"
        for s in fields(Settings)
        if not s.metadata["same_data"] and getattr(old, s.name) != getattr(new, s.name)
    ]


def _made_name(settings: Settings) -> str:
    # The same command finds the same run again; another setting makes another run.
    told = {f.name: getattr(settings, f.name) for f in fields(Settings) if not f.metadata["same_data"]}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:6]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(settings.task).stem)[:80].strip("-_")
    return f"{stem or 'run'}-{digest}"


def typed(setting: Field[Any], value: Any, place: str) -> Any:
    """Give a value of a settings file in the type of its setting.

    Raises:
        SettingsError: it is of another type; names ``place``.
    """
    default = default_of(setting)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple):
        value = (value,) if isinstance(value, str) else value
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(default, dict):
        if isinstance(value, dict):
            return value
    elif type(value) is type(default):
        return value
    wanted = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    wanted |= {tuple: "a list of texts", dict: "a table"}
    raise SettingsError(f"{place} is {value!r}, but must be {wanted[type(default)]}")


def default_of(setting: Field[Any]) -> Any:
    """Give the value of a setting where nobody says otherwise."""
    return setting.default if setting.default is not MISSING else cast(Any, setting.default_factory)()


def checked(setting: Field[Any], value: Any, place: str = "") -> None:
    """Refuse a value that its setting cannot have.

    Raises:
        SettingsError: names ``place``, or the setting's flag, and what it may be.
    """
    low, high, choices = (setting.metadata[name] for name in ("low", "high", "choices"))
    flag = place or flag_of(setting)
    if isinstance(value, Mapping):
        refuse_keys(value, flag)
    if value == "" and default_of(setting) != "":
        raise SettingsError(f"{flag} is empty; leave it out for its default, {default_of(setting)!r}")
    if choices and value not in choices:
        raise SettingsError(f"{flag} is {value!r}, but must be one of {_listed(choices)}")
    if low is not None and not value >= low:
        raise SettingsError(f"{flag} is {value}, but must be at least {low}")
    if high is not None and not value <= high:
        raise SettingsError(f"{flag} is {value}, but must be at most {high}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
