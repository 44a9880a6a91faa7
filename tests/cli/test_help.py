from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dsrl.cli.run import ORIGINAL_ARGUMENTS

HEAVY = {"torch", "transformers", "datasets", "openai", "pydantic", "numpy", "pyarrow", "rich", "sqlite3", "asyncio"}


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys\nfrom dsrl.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert "dsrl" in done.stdout
    assert not HEAVY & {name.partition(".")[0] for name in done.stderr.split()}


def test_every_command_has_help(dsrl):
    from dsrl.cli import COMMANDS

    for name, (_, summary) in COMMANDS.items():
        outcome = dsrl(name, "--help")
        assert outcome.code == 0
        assert f"dsrl {name}" in outcome.out
        assert summary in dsrl("--help").out.replace("\n          ", " ")


def test_run_shows_every_setting():
    """Every setting of a settings file has a flag, listed under its table."""
    from dataclasses import fields

    from click.testing import CliRunner

    from dsrl.cli.run import command
    from dsrl.settings import Settings, flag_of

    text = CliRunner().invoke(command, ["--help"]).output
    for setting in fields(Settings):
        assert flag_of(setting) in text
        assert f"[{setting.metadata['section']}]" in text


@pytest.mark.parametrize("argument", [name for name in ORIGINAL_ARGUMENTS if "_" in name or name == "--model"])
def test_an_argument_of_the_original_is_answered_with_ours(dsrl: Any, argument: str) -> None:
    outcome = dsrl("run", argument, "x")
    assert outcome.code == 2
    assert f"{argument} is an argument of the paper's own program; here it is --" in " ".join(outcome.err.split())


def test_the_table_of_the_original_arguments_is_whole() -> None:
    page = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
    for argument, ours in ORIGINAL_ARGUMENTS.items():
        flag, _, rest = ours.partition(",")
        assert f"| `{argument}` | `{flag}`{',' * bool(rest)}{rest} |" in page
