"""Write docs/hooks.md, docs/cli.md, docs/api.md and dsrl/plugins/catalogue.json; a test fails if one is out of date."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent

#: The one part of docs/hooks.md that is written by hand.
HOOK_API_VERSIONS = """
## Versions of the hook API

The contracts on this page are version 1 of the hook API. This number is not the version of dsrl.

- dsrl can add an optional hook, or an argument to a hook, at any time. The version stays the same, and your plugin keeps
  working: it leaves the hook out, or does not take the argument.
- A hook or an argument that is to be removed stays for a support window of at least two minor releases of dsrl. During
  this time a plugin that has it works, with a warning (`FutureWarning`), and the changelog names the change. Afterwards
  the version of the hook API rises. At present there is one such hook: `close` of samplers, which is now `aclose`.

If your plugin needs a newer version of the hook API than 1, set the attribute `dsrl_api` in its module or class:

    dsrl_api = 2

An older dsrl then refuses the plugin, and the error names both versions. Also declare in the `pyproject.toml` of the
package which versions of dsrl it works with, for example `data-synthesis-rl>=0.1,<0.2`.

To check an installed plugin, give its name; without a name, all plugins are checked:

    dsrl plugins list
    dsrl plugins check my_task
    dsrl plugins check --json

The check imports a plugin, compares its hooks with the contract, finds hooks without the mark `@hookimpl`, and calls the
hooks that cost nothing with texts that a model can produce. Without a name, it also finds entry points in an unknown
group `dsrl.*`. The exit code is 1 if there is a fault. `dsrl plugins` and `dsrl plugins --check` still work; they are the
older forms of `list` and `check`.

The classes in `dsrl.testing` test a plugin in more depth, in its own test suite: see [testing.md](testing.md). The folder
[examples](../examples/README.md) has a whole package for each kind of plugin, and `dsrl new KIND NAME` writes one of them
under your name. [catalogue.md](catalogue.md) has the form of a catalogue, which `dsrl plugins search` reads.
"""


def make_hooks_page() -> str:
    """Make the reference of all hooks from :mod:`dsrl.plugins.specs`."""
    from dsrl.plugins import base_models
    from dsrl.plugins import specs as hookspecs

    parts = [
        "# Hooks",
        "",
        "*Made by `make docs` from `dsrl/plugins/specs.py`.*",
        "",
        _to_markdown(hookspecs.__doc__),
        HOOK_API_VERSIONS,
    ]
    for kind in hookspecs.KINDS.values():
        if kind.spec is None:
            parts += [f"## {kind.name}: group `{kind.group}`", "", _to_markdown(base_models.__doc__), ""]
            continue
        parts += [f"## {kind.name}: group `{kind.group}`", "", _to_markdown(kind.spec.__doc__), ""]
        for hook in kind.hooks.values():
            name, function = hook.name, getattr(kind.spec, hook.name)
            signature = inspect.signature(function)
            arguments = [str(p).replace("'", "") for p in signature.parameters.values() if p.name != "self"]
            returns = str(signature.return_annotation).replace("'", "")
            word = "async " if inspect.iscoroutinefunction(function) else ""
            mandatory = " (mandatory)" if hook.is_mandatory else ""
            parts += [f"### `{name}`{mandatory}", "", "```python"]
            parts += [
                f"{word}def {name}({', '.join(arguments)}) -> {returns}",
                "```",
                "",
                _to_markdown(function.__doc__),
                "",
            ]
    return "\n".join(parts)


def make_commands_page() -> str:
    """Make the reference of all commands from their ``--help``."""
    from dsrl.cli import COMMANDS, cli

    parts = ["# Commands", "", "*Made by `make docs` from `--help`.*", ""]
    parts += _describe_command("dsrl", cli, None)
    root = click.Context(cli, info_name="dsrl", **cli.context_settings)
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=root)
        parts += _describe_command(f"dsrl {name}", command, root)
        if isinstance(command, click.Group):
            for subname in command.list_commands(context):
                subcommand = command.get_command(context, subname)
                assert subcommand is not None
                parts += _describe_command(f"dsrl {name} {subname}", subcommand, context)
    return "\n".join(parts)


def make_api_page() -> str:
    """Make the list of the public names from ``dsrl.__all__`` and their docstrings."""
    import dsrl
    from dsrl import api

    constants = {
        "UNREADABLE": "The answer that could not be read. It is false in a condition.",
        "__version__": "The version of dsrl.",
    }
    groups: dict[str, list[str]] = {"Run the pipeline": [], "Write a plugin": [], "Errors": []}
    for name in dsrl.__all__:
        value = getattr(dsrl, name)
        home = getattr(value, "__module__", "")
        is_error = isinstance(value, type) and issubclass(value, Exception)
        is_api = home == api.__name__ or name == "__version__"
        group = "Errors" if is_error else "Run the pipeline" if is_api else "Write a plugin"
        summary = constants.get(name) or _to_markdown(value.__doc__).split("\n\n")[0].replace("\n", " ")
        groups[group].append(f"| `{name}` | {summary.replace('|', chr(92) + '|')} |")
    parts = ["# Public names", "", "*Made by `make docs` from `dsrl/__init__.py` and the docstrings.*", ""]
    parts += [_to_markdown(api.__doc__), ""]
    parts += [
        "Everything below is imported from `dsrl` itself. Names that are not listed here can change in any release.",
        "",
    ]
    for title, rows in groups.items():
        parts += [f"## {title}", "", "| name | what it is |", "| --- | --- |", *rows, ""]
    for function in (dsrl.run, dsrl.plan):
        parts += [f"## `dsrl.{function.__name__}`", "", _to_markdown(function.__doc__), ""]
    for record in (dsrl.RunResult, dsrl.PlanResult):
        parts += [f"## `dsrl.{record.__name__}`", "", _to_markdown(record.__doc__), ""]
    return "\n".join(parts)


def make_catalogue() -> str:
    """Make the catalogue of our own plugins from their pyproject.toml and their docstrings, without importing them."""
    import json

    from dsrl.plugins.specs import API_VERSION, KINDS

    kinds = {kind.group: kind.name for kind in KINDS.values()}
    folders = [*sorted((HERE.parent / "plugins").iterdir()), HERE.parent / "contrib_tasks"]
    projects = {}
    for folder in folders:
        if (folder / "pyproject.toml").is_file():
            projects[folder] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    homes = {project["name"]: folder.relative_to(HERE.parent).as_posix() for folder, project in projects.items()}
    licence = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
    entries = []
    for folder, project in projects.items():
        words = [re.split(r"[\s\[<>=!~;]", requirement)[0] for requirement in project["dependencies"]]
        for group, points in project.get("entry-points", {}).items():
            for name, target in points.items():
                entry = {"kind": kinds[group], "name": name}
                entry |= {"distribution": project["name"], "version": project["version"]}
                entry["summary"] = _read_summary(folder, target)
                entry |= {"source": homes[project["name"]], "hook_api": [API_VERSION, API_VERSION]}
                entry["licence"] = project.get("license", licence)
                needs = [homes[word] for word in words if word in homes]
                entries.append({**entry, "needs": needs} if needs else entry)
    order = list(KINDS)
    entries.sort(key=lambda entry: (order.index(entry["kind"]), entry["name"]))
    return json.dumps({"catalogue": 1, "plugins": entries}, indent=2, ensure_ascii=False) + "\n"


def _read_summary(folder: Path, target: str) -> str:
    """Return the first sentence about a plugin: of the docstring of its class or module, or of a base model's README."""
    import ast

    module, _, name = target.partition(":")
    path = folder / module.replace(".", "/")
    if (path / "README.md").is_file():
        return " ".join((path / "README.md").read_text(encoding="utf-8").split("\n\n")[1].split())
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree: Any = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if name and isinstance(node, ast.ClassDef) and node.name == name:
            tree = node
    doc = _to_markdown(ast.get_docstring(tree)).split("\n\n")[0]
    return re.sub(r"; see `[^`]*`", "", " ".join(doc.split()))


def _describe_command(title: str, command: click.Command, parent: click.Context | None) -> list[str]:
    width = {"max_content_width": 100, "terminal_width": 100}
    context = click.Context(
        command, info_name=title.split()[-1], parent=parent, **{**command.context_settings, **width}
    )
    return [f"## {title}", "", "```", command.get_help(context), "```", ""]


def _to_markdown(doc: str | None) -> str:
    """Convert a docstring to Markdown: roles and double backticks become code, the titles of sections become bold."""
    text = inspect.cleandoc(doc or "")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"^(Args|Returns|Raises|Attributes):$", r"**\1**\n", text, flags=re.MULTILINE)
    return re.sub(r"^    (\w+(?:, \w+)*): ", r"- `\1`: ", text, flags=re.MULTILINE)


PAGES = {
    "hooks.md": make_hooks_page,
    "cli.md": make_commands_page,
    "api.md": make_api_page,
    "../dsrl/plugins/catalogue.json": make_catalogue,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make(), encoding="utf-8")
