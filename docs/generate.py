"""Write docs/hooks.md and docs/cli.md from the code; a test fails when they are not what the code says."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

HERE = Path(__file__).parent


def hooks() -> str:
    """Make the reference of all hooks out of :mod:`dsrl.plugins.specs`."""
    from dsrl.plugins import base_models
    from dsrl.plugins import specs as hookspecs

    parts = ["# Hooks", "", "*Made by `make docs` from `dsrl/plugins/specs.py`.*", "", _text(hookspecs.__doc__), ""]
    for kind in hookspecs.KINDS.values():
        if kind.spec is None:
            parts += [f"## {kind.name}: group `{kind.group}`", "", _text(base_models.__doc__), ""]
            continue
        parts += [f"## {kind.name}: group `{kind.group}`", "", _text(kind.spec.__doc__), ""]
        for hook in kind.hooks.values():
            name, function = hook.name, getattr(kind.spec, hook.name)
            signature = inspect.signature(function)
            arguments = [str(p).replace("'", "") for p in signature.parameters.values() if p.name != "self"]
            returns = str(signature.return_annotation).replace("'", "")
            word = "async " if inspect.iscoroutinefunction(function) else ""
            mandatory = " (mandatory)" if hook.is_mandatory else ""
            parts += [f"### `{name}`{mandatory}", "", "```python"]
            parts += [f"{word}def {name}({', '.join(arguments)}) -> {returns}", "```", "", _text(function.__doc__), ""]
    return "\n".join(parts)


def cli() -> str:
    """Make the reference of all commands out of their ``--help``."""
    from dsrl.cli import COMMANDS
    from dsrl.cli import cli as group

    parts = ["# Commands", "", "*Made by `make docs` from `--help`.*", ""]
    parts += _help("dsrl", group, None)
    root = click.Context(group, info_name="dsrl", **group.context_settings)
    for name in COMMANDS:
        command = group.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=root)
        parts += _help(f"dsrl {name}", command, root)
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                found = command.get_command(context, sub)
                assert found is not None
                parts += _help(f"dsrl {name} {sub}", found, context)
    return "\n".join(parts)


def _help(title: str, command: click.Command, parent: click.Context | None) -> list[str]:
    width = {"max_content_width": 100, "terminal_width": 100}
    context = click.Context(
        command, info_name=title.split()[-1], parent=parent, **{**command.context_settings, **width}
    )
    return [f"## {title}", "", "```", command.get_help(context), "```", ""]


def _text(doc: str | None) -> str:
    """Turn a docstring into Markdown: roles and double backticks become code, sections bold."""
    import re

    text = inspect.cleandoc(doc or "")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"^(Args|Returns|Raises|Attributes):$", r"**\1**\n", text, flags=re.MULTILINE)
    return re.sub(r"^    (\w+(?:, \w+)*): ", r"- `\1`: ", text, flags=re.MULTILINE)


PAGES = {"hooks.md": hooks, "cli.md": cli}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make(), encoding="utf-8")
