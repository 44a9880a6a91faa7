from __future__ import annotations

import subprocess
import sys

import pytest

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
