"""The settings of a run. Each is declared once: its name, its default, its table in a settings file, its help.

The name of a setting is the same everywhere: ``votes`` in Python, ``votes`` in a settings file, ``--votes`` as a flag.

From weakest to strongest: the paper's values, the recipe of the base model (``dsrl.toml`` beside its weights, numbers only,
see :mod:`dsrl.plugins.recipes`), the settings file (``--config``), the flags. The result is stored in the run's ``run.db``
and copied to its ``run.toml``, which can be used as a settings file.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from dsrl.errors import SettingsError
from dsrl.keys import refuse_keys
from dsrl.toml_files import parse_toml, read_toml_text
from dsrl.types import Purpose

#: The rules that select the training set before the training. ``online`` leaves the choice to the trainer.
SELECTIONS = ("potential", "learnability", "random", "easy", "hard", "full")
ONLINE = "online"
#: What selects in place of ``online`` if the trainer cannot choose.
STATIC_SELECTION = "potential"
EVAL_DATA = ("samples", "train")
#: Tables of run.toml that inform the reader and set nothing.
INFORMATIVE_TABLES = ("versions", "model")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _setting(
    default: Any,
    section: str,
    description: str,
    old_key: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    resumable: bool = False,
    value_type: type | None = None,
    since: str = "",
    earlier: Any = None,
    usually_one: bool = False,
) -> Any:
    """Declare a setting.

    Args:
        default: the value that is used when nothing else sets it.
        section: the setting's table in a settings file.
        description: one line for ``--help`` and the documentation.
        old_key: the key of the setting in settings files of version 0.1; it is still read.
        low, high: bounds, included.
        choices: the possible values; empty if any value of the type is possible.
        resumable: whether the value may change when a run is resumed.
        value_type: the type of the value; only needed if the default is None.
        since: the version of dsrl that added the setting, if that is later than 0.1. A run in which such a setting does what
            earlier versions did keeps the name that these made for it.
        earlier: the value that does what earlier versions did; None if it is the default.
        usually_one: for a setting with several values of which most runs give one: one value is written as a text, and an
            empty text is the same as no value.
    """
    metadata = {
        "section": section,
        "help": description,
        "old_key": old_key,
        "low": low,
        "high": high,
        "choices": choices,
        "resumable": resumable,
        "type": value_type or type(default),
        "since": since,
        "earlier": earlier,
        "usually_one": usually_one,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All settings of a run. The defaults are the paper's (section 4, appendix A.3), unless docs/method.md says why not."""

    name: str = _setting("", "run", "Name of the run; default: made from the task and the settings.")
    seed: int = _setting(0, "run", "Seed of everything that is random.", low=0, high=2**31 - 1)
    iterations: int = _setting(
        1, "run", "Number of iterations; each starts from the model that the one before trained.", low=1, high=1000
    )
    force: bool = _setting(
        False,
        "run",
        "Go on with a base model that was not trained for the task, or that solved no sample.",
        resumable=True,
        since="0.2",
    )
    hook_timeout: float = _setting(
        120.0,
        "run",
        "Seconds that a hook of a task may work on one text before the run ends with an error; 0: no limit.",
        low=0.0,
        resumable=True,
        since="0.2",
    )

    log_to: tuple[str, ...] = _setting(
        (),
        "run",
        "Also write the metrics of the training to tensorboard, wandb (offline, unless WANDB_MODE says otherwise) or "
        "trackio; may be repeated.",
        resumable=True,
        since="0.2",
    )

    task: tuple[str, ...] = _setting(
        (),
        "task",
        "Task: the name of an installed task, or the path of a .toml or .py file that holds one. Repeated: one run over "
        "several tasks; the other settings of this table then take TASK=VALUE.",
        old_key="name",
        usually_one=True,
    )
    task_instruction: tuple[str, ...] = _setting(
        (), "task", "Description of the task; replaces the task's own.", old_key="instruction", usually_one=True
    )
    rubric: tuple[str, ...] = _setting(
        (),
        "task",
        "Rubric by which a teacher judges answers; replaces the task's own rubric, or its reward by rules.",
        since="0.2",
        usually_one=True,
    )
    dataset_path: tuple[str, ...] = _setting(
        (),
        "task",
        "Real test items: a file (JSONL, JSON, CSV, TSV, Parquet), a DatasetDict folder or a hub id.",
        resumable=True,
        usually_one=True,
    )
    input_column: tuple[str, ...] = _setting(
        (),
        "task",
        "Column of the input in --dataset-path and --demos; repeated: these columns make an input together.",
        resumable=True,
        since="0.2",
    )
    output_column: tuple[str, ...] = _setting(
        (),
        "task",
        "Column of the right answer in --dataset-path and --demos.",
        resumable=True,
        since="0.2",
        usually_one=True,
    )
    test_size: int = _setting(
        0, "task", "Evaluate on this many of the first test items of a task; 0: on all of them.", low=0, resumable=True
    )
    domain: tuple[str, ...] = _setting((), "task", "Domain to search passages for; may be repeated.")
    demos: tuple[str, ...] = _setting(
        (),
        "task",
        "File of demonstrations (JSON, JSONL, CSV, TSV or Parquet) with input and output, and perhaps a domain.",
        usually_one=True,
    )
    demos_from_train: int = _setting(
        0, "task", "Draw this many demonstrations from the train split of --dataset-path.", low=0, since="0.2"
    )
    override: tuple[str, ...] = _setting(
        (), "task", "Python file whose task hooks replace the task's own in this run; may be repeated."
    )
    task_option: Mapping[str, Any] = _setting(
        {}, "task", "KEY=VALUE for the task plugin; with several tasks TASK.KEY=VALUE.", old_key="options"
    )

    retriever: str = _setting("bm25", "retrieval", "Retriever plugin.", old_key="name")
    corpus: tuple[str, ...] = _setting(
        (),
        "retrieval",
        "Passage library: a file, a folder, or the name of an index (`dsrl index`); may be repeated.",
    )
    max_bad: float = _setting(0.01, "retrieval", "Maximum share of unusable lines in a library.", low=0.0, high=1.0)
    passage_length: int = _setting(
        0,
        "retrieval",
        "Cut longer documents into passages of at most so many characters, at sentence ends; 0: cut only plain texts.",
        low=0,
        since="0.2",
    )
    passages: int = _setting(
        10_000, "retrieval", "Maximum number of passages to retrieve; 0: write the samples without passages.", low=0
    )
    passage_queries: str = _setting(
        "joined",
        "retrieval",
        "joined: one search with all keywords, as in the paper; each: one for each keyword, fused by reciprocal rank.",
        choices=("joined", "each"),
        since="0.2",
    )
    passage_distinct: bool = _setting(
        False, "retrieval", "Leave out passages that are nearly the same as a better one, and boilerplate.", since="0.2"
    )
    passage_diversity: float = _setting(
        0.0,
        "retrieval",
        "Weight of diversity in the choice of passages (maximal marginal relevance); 0: only relevance.",
        low=0.0,
        high=1.0,
        since="0.2",
    )
    passage_spread: bool = _setting(
        False, "retrieval", "Let the files of the library take turns in the choice of passages.", since="0.2"
    )
    passage_rerank: str = _setting(
        "", "retrieval", "Model of sentence-transformers that reranks the best passages.", since="0.2"
    )
    passage_rerank_top: int = _setting(200, "retrieval", "Number of passages that are reranked.", low=1, since="0.2")
    retriever_option: Mapping[str, Any] = _setting(
        {}, "retrieval", "KEY=VALUE for the retriever plugin.", old_key="options"
    )

    teacher: str = _setting("procedural", "teacher", "Teacher plugin, NAME or NAME:MODEL.", old_key="name")
    teacher_temperature: float = _setting(
        0.7, "teacher", "Temperature of the teacher.", old_key="temperature", low=0.0, high=2.0
    )
    teacher_max_tokens: int = _setting(
        2048, "teacher", "Maximum length of a reply in tokens.", old_key="max_tokens", low=1
    )
    teacher_option: Mapping[str, Any] = _setting({}, "teacher", "KEY=VALUE for the teacher plugin.", old_key="options")
    solve_teacher: str = _setting("", "teacher", "Teacher that votes, NAME or NAME:MODEL; default: --teacher.")
    solve_teacher_option: Mapping[str, Any] = _setting(
        {},
        "teacher",
        "KEY=VALUE for the teacher that votes; default: --teacher-option.",
        old_key="solve_teacher_options",
    )
    rewrite_teacher: str = _setting("", "teacher", "Teacher that rewrites, NAME or NAME:MODEL; default: --teacher.")
    rewrite_teacher_option: Mapping[str, Any] = _setting(
        {},
        "teacher",
        "KEY=VALUE for the teacher that rewrites; default: --teacher-option.",
        old_key="rewrite_teacher_options",
    )
    judge_teacher: str = _setting(
        "",
        "teacher",
        "Teacher that judges the answers of a task with a rubric, NAME or NAME:MODEL; default: --teacher.",
        since="0.2",
    )
    judge_teacher_option: Mapping[str, Any] = _setting(
        {}, "teacher", "KEY=VALUE for the teacher that judges; default: --teacher-option.", since="0.2"
    )
    votes: int = _setting(
        16, "teacher", "Maximum number of votes per sample, besides its own answer; 0: no verification.", low=0
    )
    vote_confidence: float = _setting(
        0.0,
        "teacher",
        "Stop voting at this confidence; 0: stop when no further vote can change the label.",
        low=0.0,
        high=0.999999,
    )
    retries_unreadable: int = _setting(0, "teacher", "Retries for an unreadable sample or judgement.", low=0, high=3)
    concurrency: int = _setting(
        128, "teacher", "Maximum number of requests in flight to one provider.", low=1, resumable=True
    )
    requests_per_minute: int = _setting(
        0, "teacher", "Limit for each provider; 0: the limit that the provider reports.", low=0, resumable=True
    )
    tokens_per_minute: int = _setting(
        0,
        "teacher",
        "Limit for each provider, prompt and completion; 0: the limit that the provider reports.",
        low=0,
        resumable=True,
    )
    budget: float | None = _setting(
        None,
        "teacher",
        "Maximum cost of the run in dollars, over all its resumptions; default: no limit.",
        low=0.0,
        resumable=True,
        value_type=float,
    )
    price: tuple[str, ...] = _setting(
        (), "teacher", "MODEL=PROMPT,COMPLETION in dollars per million tokens; may be repeated.", resumable=True
    )
    batch: bool = _setting(False, "teacher", "Use the provider's batch API: cheaper, but hours later.", resumable=True)

    samples: int = _setting(500, "synthesis", "N: number of initial samples.", low=1, high=1_000_000)
    adapt: bool = _setting(True, "synthesis", "Rewrite solved samples harder and unsolved samples easier.")
    decontaminate: bool = _setting(
        True,
        "synthesis",
        "Set aside samples that copy a test item, and duplicates among the samples.",
        since="0.2",
    )

    base_model: str = _setting("tiny", "score", "Base model: an installed name, a folder or a hub id.")
    sampler: str = _setting("transformers", "score", "Sampler plugin; it runs the base model.", old_key="name")
    chat_template: str = _setting(
        "auto",
        "score",
        "Ask the base model through its chat template; auto: if it has one.",
        choices=("auto", "on", "off"),
        since="0.2",
    )
    system_prompt: str = _setting("", "score", "System text in the prompts of the base model.", since="0.2")
    attempts: int = _setting(64, "score", "L: maximum number of attempts per sample to measure its pass rate.", low=1)
    attempt_confidence: float = _setting(
        0.94,
        "score",
        "Stop the attempts when the M samples of L attempts each are known with this confidence; 0: make all L attempts at "
        "every sample, as in the paper.",
        low=0.0,
        high=0.999,
        since="0.2",
        earlier=0.0,
    )
    attempt_temperature: float = _setting(
        0.7, "score", "Temperature of the attempts.", old_key="temperature", low=0.01, high=10.0
    )
    sampler_option: Mapping[str, Any] = _setting({}, "score", "KEY=VALUE for the sampler plugin.", old_key="options")

    select: int = _setting(500, "selection", "M: maximum number of samples to train on.", old_key="size", low=1)
    selection: str = _setting(
        "potential",
        "selection",
        "How to choose the M samples: the paper's lowest score (potential), the highest p(1-p) of the pass rate p "
        "(learnability), an ablation, or online: the trainer chooses the samples of each step by what the model answers.",
        old_key="rule",
        choices=(*SELECTIONS, ONLINE),
    )
    min_agreement: float = _setting(
        0.75,
        "selection",
        "Leave out samples whose label has a smaller share of the readable votes than this: it may be wrong; 0: none, as in "
        "the paper.",
        low=0.0,
        high=1.0,
        since="0.2",
        earlier=0.0,
    )
    max_pass_rate: float = _setting(
        1.0,
        "selection",
        "Leave out samples that the base model solves more often than this share: they teach nothing.",
        low=0.0,
        high=1.0,
        since="0.2",
    )
    fill: bool = _setting(
        False,
        "selection",
        "Take samples above --max-pass-rate after all if there are fewer than M others.",
        since="0.2",
    )
    never_solved: str = _setting(
        "last",
        "selection",
        "Samples that were never solved: last (the paper's Equation 7), first (the hardest), or drop.",
        choices=("last", "first", "drop"),
        since="0.2",
    )
    balance: bool = _setting(
        False,
        "selection",
        "Select as large a share of every label as it has among the samples; the paper selects by score alone.",
        since="0.2",
    )
    eval_every: int = _setting(
        0,
        "selection",
        "Hold out a tenth of the samples before the selection, evaluate on it every so many training steps, and keep the "
        "best model; 0: off, and all samples can be selected, as in the paper.",
        low=0,
        since="0.2",
    )
    eval_data: str = _setting(
        "samples",
        "selection",
        "What --eval-every evaluates on: held-out samples, or real items of the train split of --dataset-path.",
        choices=EVAL_DATA,
        since="0.2",
    )

    trainer: str = _setting("grpo", "train", "Trainer plugin.", old_key="name")
    output_model: str = _setting(
        "", "train", "Folder for the trained model; default: in the run's folder.", resumable=True
    )
    learning_rate: float = _setting(1e-6, "train", "Peak learning rate.", low=0.0, high=1.0)
    epochs: int = _setting(5, "train", "Passes over the selected samples.", low=1)
    batch_size: int = _setting(64, "train", "Prompts per step.", low=1)
    group_size: int = _setting(16, "train", "Answers per prompt (the group of GRPO).", low=2)
    train_temperature: float = _setting(
        1.2, "train", "Temperature of the training answers.", old_key="temperature", low=0.01, high=10.0
    )
    train_top_p: float = _setting(
        1.0, "train", "Nucleus (top-p) of the training answers.", old_key="top_p", low=0.01, high=1.0
    )
    kl_coef: float = _setting(0.01, "train", "Weight of the KL term against the base model.", low=0.0)
    max_completion_tokens: int = _setting(
        2048, "train", "Maximum length of an answer of the base model in tokens.", low=1
    )
    max_prompt_tokens: int = _setting(2048, "train", "Samples with longer prompts are not trained on.", low=1)
    lora_rank: int = _setting(0, "train", "Train LoRA adapters of this rank; 0: train all weights.", low=0)
    trainer_option: Mapping[str, Any] = _setting({}, "train", "KEY=VALUE for the trainer plugin.", old_key="options")

    device: str = _setting("auto", "compute", "Device of the base model: auto, cpu, cuda, cuda:1.")
    dtype: str = _setting(
        "auto",
        "compute",
        "Number format of the base model.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )

    def teacher_of(self, purpose: Purpose) -> tuple[str, str, Mapping[str, Any]]:
        """Return the plugin, the model (may be empty) and the options of the teacher for one purpose."""
        teacher, options = self.teacher, self.teacher_option
        own: str = getattr(self, f"{purpose}_teacher", "")  # solve, rewrite and judge can have a teacher of their own
        own_options: Mapping[str, Any] = getattr(self, f"{purpose}_teacher_option", {})
        if own:
            # Another plugin has other options. Another model of the same plugin is on the same server.
            same = own.partition(":")[0] == teacher.partition(":")[0]
            teacher, options = own, options if same else {}
        name, _, model = teacher.partition(":")
        return name, model, own_options or options


def flag_of(setting: Field[Any]) -> str:
    """Return the flag of a setting on the command line."""
    return "--" + setting.name.replace("_", "-")


_BY_SECTION = {
    section: {s.name: s for s in fields(Settings) if s.metadata["section"] == section}
    for section in dict.fromkeys(s.metadata["section"] for s in fields(Settings))
}
_BY_OLD_KEY = {(s.metadata["section"], s.metadata["old_key"]): s for s in fields(Settings) if s.metadata["old_key"]}


def find_setting(section: str, key: str) -> Field[Any] | None:
    """Return the setting that a key in a table of a settings file sets; None if there is no such setting."""
    return _BY_SECTION.get(section, {}).get(key) or _BY_OLD_KEY.get((section, key))


def read_settings(path: Path) -> dict[str, Any]:
    """Read a settings file and return setting -> value for what it sets.

    Raises:
        SettingsError: the file is wrong; the error names the file, the table and the key.
    """
    title = f"settings file {path}"
    return parse_settings(read_toml_text(path, title), title)


def parse_settings(text: str, source: str) -> dict[str, Any]:
    """Read the text of a settings file and return setting -> value for what it sets.

    Raises:
        SettingsError: the text is wrong; the error names ``source``, the table and the key.
    """
    values: dict[str, Any] = {}
    for section, table in parse_toml(text, source).items():
        if section in INFORMATIVE_TABLES:
            continue
        if section not in _BY_SECTION or not isinstance(table, Mapping):
            near = difflib.get_close_matches(section, _BY_SECTION, n=1)
            hint = f"did you mean [{near[0]}]?" if near else f"the tables are {', '.join(_BY_SECTION)}"
            raise SettingsError(f"{source}: there is no table [{section}]; {hint}")
        for key, value in table.items():
            setting = find_setting(section, key)
            if setting is None:
                raise _unknown_key(source, section, key)
            if setting.name in values:
                raise SettingsError(
                    f"{source}, [{section}] sets {setting.name} twice, once as {key}; remove one of them"
                )
            values[setting.name] = convert(setting, value, f"{source}, [{section}] {key}")
    return values


def _unknown_key(source: str, section: str, key: str) -> SettingsError:
    names = {name: name for name in _BY_SECTION[section]}
    names |= {old: setting.name for (table, old), setting in _BY_OLD_KEY.items() if table == section}
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {names[near[0]]!r}?" if near else f"its settings are {', '.join(_BY_SECTION[section])}"
    return SettingsError(f"{source}: [{section}] has no setting {key!r}; {hint}")


def list_earlier_values() -> dict[str, Any]:
    """Return the settings whose default does something else than earlier versions did, with the value that does that."""
    return {s.name: s.metadata["earlier"] for s in fields(Settings) if s.metadata["earlier"] is not None}


def resolve(*layers: Mapping[str, Any]) -> Settings:
    """Merge layers of settings over the defaults, weakest first, and check the result.

    Raises:
        SettingsError: a value is not possible; the error names the setting and its possible values.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    for setting in fields(Settings):
        if setting.metadata["usually_one"] and setting.name in merged:
            merged[setting.name] = _list_values(merged[setting.name])
    settings = Settings(**merged)
    for setting in fields(Settings):
        check(setting, getattr(settings, setting.name))
    if not settings.task:
        raise SettingsError(
            "no task is named; give --task NAME (`dsrl tasks` lists the installed tasks), or describe a task of your own "
            'with --task-instruction "..." and --answer, for example --answer tag:yes,no'
        )
    if not settings.name:
        return replace(settings, name=_make_name(settings))
    if not _RUN_NAME.fullmatch(settings.name):
        raise SettingsError(
            f"--name {settings.name!r}: the name of a run is the name of a folder: letters, digits, dots, dashes and "
            "underscores, at most 100, a letter or a digit first"
        )
    return settings


def to_toml(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings as the tables of a settings file; empty ones are left out."""
    tables: dict[str, dict[str, Any]] = {}
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        if value in (None, "", (), {}):
            continue
        table = tables.setdefault(setting.metadata["section"], {})
        table[setting.name] = _simplify(setting, value)
    return tables


def _list_values(values: str | Sequence[str]) -> tuple[str, ...]:
    """Return the values of a setting that usually has one; an empty text is no value."""
    return tuple(value for value in ((values,) if isinstance(values, str) else values) if value)


def _simplify(setting: Field[Any], value: Any) -> Any:
    """Return a value as a settings file has it; one value of a setting that usually has one is a text."""
    if setting.metadata["usually_one"] and len(value) < 2:
        return value[0] if value else ""
    return list(value) if isinstance(value, tuple) else value


def differences(old: Settings, new: Settings) -> list[str]:
    """List the changed settings that prevent a run from being resumed, each as ``flag: old -> new``."""
    return [
        f"{flag_of(s)}: {_simplify(s, getattr(old, s.name))!r} -> {_simplify(s, getattr(new, s.name))!r}"
        for s in fields(Settings)
        if not s.metadata["resumable"] and getattr(old, s.name) != getattr(new, s.name)
    ]


def _make_name(settings: Settings) -> str:
    # The same command finds the same run again; other settings make another run. The options keep the names that they
    # had in version 0.1, and a setting that was added later counts only if it does something else than earlier versions did,
    # so that the runs of these are still found.
    earlier = list_earlier_values()
    values = {
        f"{s.name}s" if s.metadata["type"] is dict else s.name: _simplify(s, getattr(settings, s.name))
        for s in fields(Settings)
        if not s.metadata["resumable"]
        and not (s.metadata["since"] and getattr(settings, s.name) == earlier.get(s.name, default_of(s)))
    }
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:6]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(Path(task).stem for task in settings.task))[:80].strip("-_")
    return f"{stem or 'run'}-{digest}"


def convert(setting: Field[Any], value: Any, place: str) -> Any:
    """Convert a value of a settings file to the type of its setting.

    Raises:
        SettingsError: the value is of another type; the error names ``place``.
    """
    value_type = setting.metadata["type"]
    if value_type is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        # In version 0.1, an infinite budget was the way to write that there is no limit.
        return None if value == math.inf and default_of(setting) is None else float(value)
    if value_type is tuple:
        value = (value,) if isinstance(value, str) else value
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif value_type is dict:
        if isinstance(value, dict):
            return value
    elif type(value) is value_type:
        return value
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    names |= {tuple: "a list of texts", dict: "a table"}
    raise SettingsError(f"{place} is {value!r}, but must be {names[value_type]}")


def default_of(setting: Field[Any]) -> Any:
    """Return the default of a setting."""
    return setting.default if setting.default is not MISSING else cast(Any, setting.default_factory)()


def check(setting: Field[Any], value: Any, place: str = "") -> None:
    """Refuse a value that its setting cannot have.

    Raises:
        SettingsError: names ``place``, or the setting's flag, and the possible values.
    """
    low, high, choices = (setting.metadata[name] for name in ("low", "high", "choices"))
    flag = place or flag_of(setting)
    if value is None and default_of(setting) is None:
        return
    if isinstance(value, Mapping):
        refuse_keys(value, flag)
    if value == "" and default_of(setting) != "":
        raise SettingsError(f"{flag} is empty; leave it out to use its default, {default_of(setting)!r}")
    if choices and value not in choices:
        raise SettingsError(f"{flag} is {value!r}, but must be one of {', '.join(choices)}")
    if low is not None and not value >= low:
        raise SettingsError(f"{flag} is {value}, but must be at least {low}")
    if high is not None and not value <= high:
        raise SettingsError(f"{flag} is {value}, but must be at most {high}")
