"""The pages that are made from the code are what the code says, and every example in the others runs."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "contrib_tasks/README.md", *sorted((ROOT / "examples").rglob("README.md"))]


def _generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["hooks.md", "cli.md", "api.md", "../dsrl/plugins/catalogue.json"])
def test_generated_pages_are_up_to_date(page):
    made = _generator().PAGES[page]()
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def _commands(page: Path) -> list[list[str]]:
    """Every `dsrl ...` line of a page, in code blocks and in running text."""
    lines: list[str] = []
    fenced = False
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():  # commands of several lines
        fenced ^= line.startswith("```")
        if (fenced or line.startswith("    ")) and line.strip().startswith("dsrl "):
            lines.append(line.split("#")[0].strip())
        lines += [span for span in re.findall(r"`([^`]+)`", line) if span.startswith("dsrl ")]
    return [shlex.split(line)[1:] for line in lines if "..." not in line]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_commands_in_the_pages_are_commands(page):
    """Flags and subcommands of every example are understood."""
    import click

    from dsrl.cli import cli

    for args in _commands(page):
        command: click.Command = cli
        context = click.Context(cli, info_name="dsrl")
        rest = args
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(context, rest[0])
            assert found is not None, args
            context = click.Context(found, info_name=rest[0], parent=context)
            command, rest = found, rest[1:]
        if rest and not isinstance(command, click.Group):
            command.make_parser(context).parse_args(list(rest))


def test_the_task_of_the_tutorial_is_a_task(tmp_path, monkeypatch):
    """The first two blocks of docs/tasks.md are a package that dsrl finds, binds and runs by name."""
    code, project = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "docs/tasks.md").read_text("utf-8"), re.DOTALL)[
        :2
    ]
    (tmp_path / "lease_task.py").write_text(code)
    meta = tomllib.loads(project)
    (group, points), *_ = meta["project"]["entry-points"].items()
    info = tmp_path / "lease_task-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {meta['project']['name']}\nVersion: 0.1\n")
    lines = [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    from dsrl.plugins.binding import check_contract, load
    from dsrl.plugins.discovery import list_plugins
    from dsrl.types import PluginRef

    (found,) = [plugin for plugin in list_plugins("task") if plugin.name == "lease"]
    check_contract(found)
    task = load(PluginRef("task", "lease"), "task")
    assert task.hook.reward(output="<think> it says so </think> <answer> Yes. </answer>", label="yes") == 1.0
    assert task.hook.reward(output="<answer> no </answer>", label="yes") == 0.1
    assert task.hook.reward(output="yes", label="yes") == 0.0


def test_the_override_of_the_tutorial_works(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tasks.md").read_text("utf-8"), re.DOTALL)
    file = tmp_path / "my_reward.py"
    file.write_text(blocks[-1])
    from dsrl.plugins.binding import load
    from dsrl.types import PluginRef

    task = load(PluginRef("task", "mednli", {}, (str(file),)), "task")
    outputs = ("<answer>no</answer>", "<answer>yes</answer>", "no")
    assert [task.hook.reward(output=output, label="no") for output in outputs] == [1.0, 0.0, 0.0]


def test_the_json_page_names_every_key():
    from dsrl.storage.run_store import SampleCounts

    text = (ROOT / "docs/runs.md").read_text("utf-8")
    for key in (*SampleCounts.__annotations__, "gain_ci95", "teacher_calls", "cost_usd", "seconds", "model_path"):
        assert f"`{key}`" in text, key


def test_the_changelog_speaks_of_this_version():
    from dsrl import __version__

    versions = {
        tomllib.loads(path.read_text())["project"]["version"]
        for path in [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    }
    assert versions == {__version__}
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
