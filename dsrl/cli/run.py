"""``dsrl run``: walk the road."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click

from dsrl.cli.common import Command, folder_options, json_option, note, print_json, shown
from dsrl.settings import Settings, flag_of
from dsrl.signals import exit_code
from dsrl.storage import STAGES


class RunCommand(Command):
    """Shows its many options by the section of the settings file that they stand in."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {f.name: f.metadata["section"] for f in fields(Settings)}
        by_section: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record:
                by_section.setdefault(sections.get(option.name or "", ""), []).append(record)
        own = by_section.pop("", [])
        for section, records in by_section.items():
            with formatter.section(f"Settings [{section}]"):
                formatter.write_dl(records)
        with formatter.section("Options"):
            formatter.write_dl(own)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for every setting; a flag that is not given says nothing."""
    for setting in reversed(fields(Settings)):
        command = _option(setting)(command)
    return command


def _option(setting: Field[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default = setting.default if setting.default is not MISSING else {}
    flag = flag_of(setting)
    help = setting.metadata["help"]
    if isinstance(default, bool):
        negative = f"--no-{flag[2:]}"
        shown = f"{help}  [default: {flag if default else negative}]"
        return click.option(f"{flag}/{negative}", setting.name, default=None, help=shown)
    if isinstance(default, dict):
        return click.option(flag, setting.name, multiple=True, metavar="KEY=VALUE", help=help)
    if isinstance(default, tuple):
        return click.option(flag, setting.name, multiple=True, help=help)
    if setting.metadata["choices"]:
        kind: Any = click.Choice(setting.metadata["choices"])
    else:
        kind = setting.metadata["type"]
    told = default not in (None, "", 0) or (default == 0.0 and isinstance(default, float))
    shown = f"{help}  [default: {default}]" if told else help
    return click.option(flag, setting.name, type=kind, default=None, help=shown)


def flag_values(values: dict[str, Any]) -> dict[str, Any]:
    """Keep the settings whose flags were given."""
    from dsrl.plugins.binding import parse_options

    flags: dict[str, Any] = {}
    for setting in fields(Settings):
        value = values.get(setting.name)
        if value is None or value == ():
            continue
        is_options = setting.default is MISSING
        flags[setting.name] = parse_options(value, flag_of(setting)) if is_options else value
    return flags


@click.command("run", cls=RunCommand)
@settings_options
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); flags win over it.")
@click.option("--stop-after", type=click.Choice(STAGES), default=STAGES[-1], help="Last stage to walk.")
@folder_options
@json_option
def command(
    config: Path | None, stop_after: str, runs_dir: Path, cache_dir: Path, as_json: bool, **values: Any
) -> None:
    """Walk the road from a task to a trained and evaluated model.

    The same command goes on where it was stopped or killed: every teacher reply is kept, none is asked for twice. The
    defaults need no key, no GPU and no network. A base model may bring its own training settings; what holds in the end
    is written to run.toml in the run's folder, which is a settings file again.

    \b
        dsrl run --task mednli
        dsrl run --task mednli --corpus passages/ --samples 100 --name trial
        dsrl run --config runs/trial/run.toml --name again
    """
    from dsrl.pipeline.context import resolve_run
    from dsrl.pipeline.progress import progress_on_stderr
    from dsrl.pipeline.run import run_pipeline
    from dsrl.pipeline.setup import open_run, resolve_settings
    from dsrl.pipeline.summary import load_result
    from dsrl.pipeline.workspace import Workspace
    from dsrl.storage.run_log import run_log

    workspace = Workspace(runs_dir, cache_dir)
    settings = resolve_settings(config, flag_values(values))
    try:
        with (
            run_log(runs_dir / settings.name),
            progress_on_stderr(shown.quiet) as progress,
            open_run(resolve_run(settings, workspace, stop_after), progress) as run,
        ):
            finished = run_pipeline(run)
            outcome = load_result(run.store, workspace)
    except KeyboardInterrupt as stop:
        logging.getLogger("asyncio").setLevel(
            logging.CRITICAL
        )  # connections that a second signal left open are no news
        click.echo(
            f"\nInterrupted. Everything done is kept in {runs_dir / settings.name}; the same command goes on.", err=True
        )
        sys.exit(exit_code(stop))
    if as_json:
        print_json(outcome)
        return
    from dsrl.cli.show import print_run

    print_run(outcome)
    if not finished:
        note(f"Stopped after {stop_after!r}; the same command without --stop-after goes on.")
