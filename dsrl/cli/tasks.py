"""``dsrl tasks``: list the installed tasks, or show the definition of one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import (
    Group,
    command_streams,
    json_option,
    print_json,
    print_line,
    print_note,
    print_table,
    refuse_group_options,
)

if TYPE_CHECKING:
    from dsrl.types import DatasetInfo


@click.group("tasks", cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed tasks. No task is imported."""
    if context.invoked_subcommand is not None:
        refuse_group_options(context)
        return
    with command_streams():
        _list_tasks(as_json)


def _list_tasks(as_json: bool) -> None:
    from dsrl.plugins.discovery import list_plugins

    tasks = list_plugins("task")
    if as_json:
        print_json([{"name": t.name, "distribution": t.distribution, "version": t.version} for t in tasks])
    elif tasks:
        print_table("", ["task", "distribution", "version"], [[t.name, t.distribution, t.version] for t in tasks])
    else:
        print_note("No task is installed. A task is a pip package; docs/tasks.md explains how to write one.")


@command.command("show")
@click.argument("name")
@json_option
def show_command(name: str, as_json: bool) -> None:
    """Show the definition of a task: instructions, answers, domains, base model, data set and its licence, and more."""
    from dsrl.plugins.binding import load
    from dsrl.types import PluginRef

    task = load(PluginRef("task", name), "task")
    hook = task.hook
    answer_format = hook.answer_format() if task.implements("answer_format") else None
    dataset = hook.dataset_info() if task.implements("dataset_info") else None
    definition: dict[str, Any] = {
        "name": name,
        "distribution": task.distribution,
        "version": task.version,
        "description": hook.description(),
        "input_instruction": hook.input_instruction(),
        "output_instruction": hook.output_instruction(),
        "answer_format": answer_format.form if answer_format else None,
        "choices": list(answer_format.choices) if answer_format else [],
        "domains": list(hook.domains()),
        "demonstrations": len(hook.demos(domain="")),
        "base_model": hook.base_model() if task.implements("base_model") else None,
        "procedural": task.implements("procedural_sample") and task.implements("procedural_solve"),
    }
    if as_json:
        print_json({**definition, "dataset": asdict(dataset) if dataset else None})
        return
    for key, value in {**definition, **_describe_dataset(dataset)}.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        label = click.style(f"{key.replace('_', ' ')}: ", bold=True)
        print_line(label + ("none" if value in (None, "", []) else text))


def _describe_dataset(info: DatasetInfo | None) -> dict[str, Any]:
    """Return the lines about a task's usual data set."""
    if info is None:
        return {"data_set": None}
    parts = [info.id, info.config and f"configuration {info.config}", info.revision and f"revision {info.revision}"]
    return {
        "data_set": [part for part in parts if part] or [info.url],
        "data_set_license": info.license,
        "data_set_citation": info.citation,
        "data_set_page": info.url,
        "data_set_size": [f"{split} {size:,}" for split, size in info.sizes.items()],
        "data_set_loader": "run on the real data" if info.is_read else "not run on the real data",
    }
