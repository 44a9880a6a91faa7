from __future__ import annotations

from pathlib import Path

import click

from dsrl.cli.common import folder_options
from dsrl.pipeline.workspace import Workspace


def test_what_runs_share_is_in_the_cache() -> None:
    workspace = Workspace(Path("r"), Path("c"))
    assert (workspace.reply_store, workspace.indexes) == (Path("c/calls.db"), Path("c/index"))


def test_the_python_interface_and_the_command_line_use_the_same_folders() -> None:
    command = click.command()(folder_options(lambda **folders: None))
    defaults = {option.name: Path(str(option.default)) for option in command.params}
    assert defaults == {"runs_dir": Workspace().runs, "cache_dir": Workspace().cache}
