"""The model card: ``README.md`` in the folder of the trained model, in the form of the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.summary import summarise
from dsrl.settings import Settings, to_toml
from dsrl.storage.files import replace_file
from dsrl.teaching.pricing import dollars
from dsrl.teaching.reply_store import read_spending
from dsrl.text import printable, replace_surrogates

CARD = "README.md"
#: The first words of a card that dsrl wrote; another file of this name is left alone.
_MARK = "<!-- written by dsrl -->"
#: Tables of the settings that a card shows: those that decide what the model has learned.
_TABLES = ("samples", "score", "selection", "train")
#: Settings that tell of this machine, or that may hold a key.
_HIDDEN = ("output_model", "sampler_option", "trainer_option", "base_model")
_LICENSE = re.compile(r"^license:\s*([\w.+-]{1,60})\s*$", re.MULTILINE)


def write_model_card(run: OpenRun) -> None:
    """Write the card of the trained model, or write it again after the evaluation.

    A ``README.md`` that somebody else wrote, for example a trainer, is left alone.
    """
    context, store = run.context, run.store
    path = context.get_output_folder(run.settings.iterations) / CARD
    if path.is_file() and _MARK not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
        return
    result = summarise(store, run.settings, read_spending(context.workspace.reply_store, store.id))
    descriptions = {task.name: task.definition.description for task in context.tasks.values()}
    card = make_model_card(
        run.settings, result, descriptions, find_license(context.base_model), store.read_table("versions")
    )
    replace_file(path, card.encode("utf-8"))


def make_model_card(
    settings: Settings,
    result: Mapping[str, Any],
    descriptions: Mapping[str, str],
    license_name: str,
    versions: Mapping[str, Any],
) -> str:
    """Return the text of a card.

    Args:
        settings: the settings of the run.
        result: the object of ``dsrl run --json``.
        descriptions: name of a task -> its description.
        license_name: the licence of the base model as its own card states it; empty if it states none.
        versions: distribution -> its version.
    """
    head = {"library_name": "transformers", "pipeline_tag": "text-generation", "base_model": _name(settings.base_model)}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items())]
    lines += [f"license: {license_name}"] if license_name else []
    lines += ["tags: [dsrl, synthetic-data, grpo]", "---", _MARK, f"# {_line(settings.name)}", ""]
    lines += [
        f"The base model `{_line(_name(settings.base_model))}`, trained on synthetic data with dsrl (Synthetic Data RL, "
        "Guo et al. 2025, arXiv:2505.17063). No labelled data was used for the training.",
        "",
    ]
    for name, description in descriptions.items():
        lines += [f"Task `{_line(name)}`: {_line(description)}", ""]
    lines += ["## Results", "", *_describe_results(result), ""]
    lines += ["## Training data", "", *_describe_data(settings, result), ""]
    lines += ["## How to load it", "", *_describe_loading(), ""]
    lines += ["## Settings", "", "| setting | value |", "| --- | --- |", *_list_settings(settings), ""]
    lines += [f"Versions: {', '.join(f'{_line(k)} {_line(v)}' for k, v in versions.items())}.", ""]
    lines += [
        "## Licence",
        "",
        f"The base model states the licence `{license_name}`, which holds for this model too."
        if license_name
        else "The base model states no licence beside its weights; look for its terms where it was published.",
        "The terms of the teacher's provider may limit what a model that learned from its texts can be used for.",
        "",
    ]
    return replace_surrogates("\n".join(lines))


def make_data_card(settings: Settings, result: Mapping[str, Any], model: str) -> str:
    """Return the text of the card of a training set on the hub.

    Args:
        settings: the settings of the run.
        result: the object of ``dsrl run --json``.
        model: the hub id of the model that was trained on it.
    """
    lines = ["---", "tags: [dsrl, synthetic-data]", "configs:", "- config_name: default", "  data_files: train.jsonl"]
    lines += ["---", _MARK, f"# Training set of {_line(model)}", ""]
    lines += [f"Synthetic samples for the task `{_line(result['task'])}`, made with dsrl.", ""]
    lines += [*_describe_data(settings, result), ""]
    lines += [
        "Each row has `prompt` (chat messages), `answer` (the label), `id`, `task`, `domain`, `passed` of `attempts` of the "
        "base model, its `score`, and the id of the `passage` that it rests on.",
        "",
        "The terms of the teacher's provider, and of the passages, may limit what these texts can be used for.",
        "",
    ]
    return replace_surrogates("\n".join(lines))


def find_license(model: str) -> str:
    """Return the licence that the card of a model on the disk states; empty if there is none, or for a hub id."""
    path = Path(model) / CARD
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(65_536)
    except OSError:
        return ""
    front = text.partition("---\n")[2].partition("\n---")[0] if text.startswith("---") else ""
    match = _LICENSE.search(front)
    return match[1] if match else ""


def _describe_results(result: Mapping[str, Any]) -> Sequence[str]:
    base, trained, gain = result["base_accuracy"], result["trained_accuracy"], result["gain_ci95"]
    if base is None or trained is None:
        return ["Not evaluated: there was no test set."]
    lines = [
        f"Greedy answers to {result['n_test']} test items:",
        "",
        "| model | accuracy |",
        "| --- | --- |",
        f"| base | {base:.1%} |",
        f"| trained | {trained:.1%} |",
        "",
    ]
    if gain:
        lines.append(f"Gain: {trained - base:+.1%} (95% interval, paired: {gain[0]:+.1%} to {gain[1]:+.1%}).")
    lines += [f"Warning: {_line(warning)}" for warning in result["warnings"]]
    return lines


def _describe_data(settings: Settings, result: Mapping[str, Any]) -> Sequence[str]:
    samples = result["samples"]
    teacher = "" if settings.teacher == "procedural" else " The texts were written by a language model."
    cost = "" if not result["cost_usd"] else f" The teacher cost {dollars(result['cost_usd'])}."
    return [
        f"The teacher `{_line(settings.teacher)}` wrote {samples['initial']} samples, of which {samples['verified']} got a "
        f"label by its votes, and rewrote them ({samples['harder']} harder, {samples['easier']} easier). The base model's "
        f"pass rates (rule `{settings.selection}`) chose {samples['selected']} samples for the training.{teacher}{cost}",
    ]


def _describe_loading() -> Sequence[str]:
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'folder = "."  # the folder of this file, or its id on the hub',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "model = AutoModelForCausalLM.from_pretrained(folder)",
        "```",
    ]


def _list_settings(settings: Settings) -> Sequence[str]:
    tables = to_toml(settings)
    values = [(key, value) for table in _TABLES for key, value in tables.get(table, {}).items()]
    return [f"| {key} | {_line(value)} |" for key, value in values if key not in _HIDDEN]


def _name(model: str) -> str:
    """Return the name of a model without the folders of this machine."""
    return Path(model).name if Path(model).is_dir() else model


def _line(text: Any) -> str:
    """Return a text in one line in which nothing is a table, a tag or a link."""
    line = " ".join(printable(str(text)).split())
    return re.sub(r"([<>|\[\]`])", r"\\\1", line)[:2000]
