from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from dsrl.cli import cli
from dsrl.cli.common import Command, print_json, print_line, print_note, print_table
from dsrl.storage.run_log import NOTES

#: Runs a function as a command with the shared options, and returns its stdout and stderr.
Invoke = Callable[..., tuple[str, str]]


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Invoke:
    def run(work: Callable[[], None], *flags: str) -> tuple[str, str]:
        capfd.readouterr()
        Command("work", callback=work).main(list(flags), standalone_mode=False)
        out, err = capfd.readouterr()
        return out, err

    return run


def test_only_the_result_goes_to_stdout(invoke: Invoke) -> None:
    def work() -> None:
        print("a library's text")
        print_note("a note")
        print_line("the result")

    assert invoke(work) == ("the result\n", "a library's text\na note\n")
    assert invoke(work, "--quiet") == ("the result\n", "a library's text\n")


def test_cells_of_a_table_are_text_and_json_keeps_its_letters(invoke: Invoke) -> None:
    def work() -> None:
        print_table("", ["name"], [["[red]ä[/red]"]])

    assert "[red]ä[/red]" in invoke(work)[0]
    out, _ = invoke(lambda: print_json({"name": "ä"}))
    assert "ä" in out
    assert json.loads(out) == {"name": "ä"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), ["warning: slow", "error: broken"]),
        (("--verbose",), ["info: a step", "warning: slow", "error: broken"]),
        (("--quiet",), ["error: broken"]),
    ],
)
def test_log_records_are_printed_as_the_flags_say(invoke: Invoke, flags: tuple[str, ...], expected: list[str]) -> None:
    def work() -> None:
        log = logging.getLogger("library")
        log.info("a step")
        log.warning("slow")
        log.error("broken")
        logging.getLogger(NOTES).warning("the progress display prints this")

    out, err = invoke(work, *flags)
    assert (out, err.splitlines()) == ("", expected)


def test_a_broken_pipe_inside_a_command_is_not_taken_for_a_reader_that_has_exited(invoke: Invoke) -> None:
    def work() -> None:
        raise BrokenPipeError

    with pytest.raises(RuntimeError, match="closed by its other end"):
        invoke(work)


def test_the_flags_of_one_command_do_not_reach_the_next(invoke: Invoke) -> None:
    level = logging.getLogger().level
    assert invoke(lambda: click.echo(""), "--verbose")[0] == ""
    assert logging.getLogger().level == level
    assert invoke(lambda: logging.getLogger("library").info("a step")) == ("", "")


def test_a_table_in_a_pipe_is_never_folded(invoke: Invoke) -> None:
    name = "a-name-" + "x" * 300

    out, _ = invoke(lambda: print_table("title", ["name", "text"], [[name, "word " * 60]]))
    assert name in out
    assert max(map(len, out.splitlines())) < 1000


def test_a_shell_completes_runs_and_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("trial", "other"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "run.toml").touch()
    complete = ShellComplete(cli, {}, "dsrl", "_DSRL_COMPLETE")

    def list_names(args: list[str], incomplete: str) -> list[str]:
        return [item.value for item in complete.get_completions(args, incomplete)]

    assert list_names(["show"], "tr") == ["trial"]
    assert list_names(["samples"], "") == ["other", "trial"]
    assert list_names(["compare", "trial"], "o") == ["other"]
    assert "mednli" in list_names(["run", "--task"], "med")
    assert list_names(["run", "--trainer"], "gr") == ["grpo"]
