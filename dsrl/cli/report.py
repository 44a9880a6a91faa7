"""``dsrl report``: the report of one or more runs as one HTML file."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import click

from dsrl.cli.common import Command, complete_runs, folder_options, print_line, print_note


@click.command("report", cls=Command)
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_runs, metavar="RUN [RUN...]")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="The file. [default: report.html in the run]"
)
@click.option("--serve", is_flag=True, help="Show the page on this machine and keep it up to date; Ctrl-C ends it.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Port of --serve; 0: any.")
@folder_options
def command(runs: tuple[str, ...], out: Path | None, serve: bool, port: int, runs_dir: Path, cache_dir: Path) -> None:
    """Write the report of a run: result, samples, pass rates, training, test items, spending, settings.

    \b
        dsrl report mednli-3f9a1c
        dsrl report mednli-3f9a1c mednli-77ab02 --out both.html
        dsrl report mednli-3f9a1c --serve

    The page is one file that needs no network. A run that is not finished shows what it has.
    """
    from dsrl.pipeline.report.data import collect
    from dsrl.pipeline.report.page import REPORT, compare, make_page
    from dsrl.pipeline.report.server import ReportServer
    from dsrl.pipeline.workspace import Workspace
    from dsrl.storage.files import replace_file
    from dsrl.storage.run_store import RunStore

    workspace = Workspace(runs_dir, cache_dir)
    if serve:
        with ReportServer(workspace, runs, port) as server:
            print_line(server.url)
            print_note("Ctrl-C ends the server.")
            server.wait()
        return
    with ExitStack() as stack:
        stores = {run: stack.enter_context(closing(RunStore(runs_dir / run, work=False))) for run in runs}
        page = make_page([collect(store, workspace) for store in stores.values()], compare(stores, workspace))
    path = out or (runs_dir / runs[0] / REPORT if len(stores) == 1 else Path(REPORT))
    replace_file(path, page.encode("utf-8"))
    print_line(str(path))
