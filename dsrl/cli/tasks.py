"""``dsrl tasks``: the installed tasks, and what one says of itself."""

from __future__ import annotations

from typing import Any

import click

from dsrl.cli.common import Group, echo, json_option, note, print_json, table, working


@click.group("tasks", cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed tasks; nothing of them is imported."""
    if context.invoked_subcommand is not None:
        return
    with working():
        _list_tasks(as_json)


def _list_tasks(as_json: bool) -> None:
    from dsrl.plugins.discovery import list_plugins

    found = list_plugins("task")
    if as_json:
        print_json([{"name": f.name, "distribution": f.distribution, "version": f.version} for f in found])
    elif found:
        table("", ["task", "distribution", "version"], [[f.name, f.distribution, f.version] for f in found])
    else:
        note("No task is installed. A task is a pip package; docs/tasks.md says how to write one.")


@command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a task's definition: its instructions, answers, demonstrations, domains and what it can do."""
    from dsrl.plugins.binding import load
    from dsrl.types import PluginRef

    task = load(PluginRef("task", name), "task")
    hook = task.hook
    answer_format = hook.answer_format() if task.implements("answer_format") else None
    shown: dict[str, Any] = {
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
        "procedural": task.implements("procedural_sample") and task.implements("procedural_solve"),
    }
    if as_json:
        print_json(shown)
        return
    for key, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        echo(click.style(f"{key.replace('_', ' ')}: ", bold=True) + text)
