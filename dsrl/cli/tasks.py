"""``dsrl tasks``: list the installed tasks, show the definition of one, check one, or export one."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import (
    Group,
    command_streams,
    json_option,
    print_json,
    print_line,
    print_note,
    print_table,
    refuse_group_options,
)
from dsrl.errors import SettingsError

if TYPE_CHECKING:
    from dsrl.pipeline.judge_agreement import JudgeCheck
    from dsrl.plugins.task_checks.records import TaskReport
    from dsrl.types import DatasetInfo

#: Findings of a check that are printed; --json has all.
_SHOWN_FINDINGS = 3


@click.group("tasks", cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed tasks. No task is imported."""
    if context.invoked_subcommand is not None:
        refuse_group_options(context)
        return
    with command_streams():
        _list_tasks(as_json)


def _list_tasks(as_json: bool) -> None:
    from dsrl.plugins.discovery import list_plugins

    tasks = list_plugins("task")
    if as_json:
        print_json([{"name": t.name, "distribution": t.distribution, "version": t.version} for t in tasks])
    elif tasks:
        print_table("", ["task", "distribution", "version"], [[t.name, t.distribution, t.version] for t in tasks])
    else:
        print_note("No task is installed. A task is a pip package; docs/tasks.md explains how to write one.")


@command.command("show")
@click.argument("name")
@json_option
def show_command(name: str, as_json: bool) -> None:
    """Show the definition of a task: instructions, answers, domains, base model, data set and its licence, and more."""
    from dsrl.plugins.binding import load
    from dsrl.types import PluginRef

    task = load(PluginRef("task", name), "task")
    hook = task.hook
    answer_format = hook.answer_format() if task.implements("answer_format") else None
    dataset = hook.dataset_info() if task.implements("dataset_info") else None
    definition: dict[str, Any] = {
        "name": name,
        "distribution": task.distribution,
        "version": task.version,
        "description": hook.description(),
        "input_instruction": hook.input_instruction(),
        "output_instruction": hook.output_instruction(),
        "rubric": hook.rubric() or None,
        "answer_format": answer_format.form if answer_format else None,
        "choices": list(answer_format.choices) if answer_format else [],
        "domains": list(hook.domains()),
        "demonstrations": len(hook.demos(domain="")),
        "base_model": hook.base_model() if task.implements("base_model") else None,
        "procedural": task.implements("procedural_sample") and task.implements("procedural_solve"),
    }
    if as_json:
        print_json({**definition, "dataset": asdict(dataset) if dataset else None})
        return
    for key, value in {**definition, **_describe_dataset(dataset)}.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        label = click.style(f"{key.replace('_', ' ')}: ", bold=True)
        print_line(label + ("none" if value in (None, "", []) else text))


def _describe_dataset(info: DatasetInfo | None) -> dict[str, Any]:
    """Return the lines about a task's usual data set."""
    if info is None:
        return {"data_set": None}
    parts = [info.id, info.config and f"configuration {info.config}", info.revision and f"revision {info.revision}"]
    return {
        "data_set": [part for part in parts if part] or [info.url],
        "data_set_license": info.license,
        "data_set_citation": info.citation,
        "data_set_page": info.url,
        "data_set_size": [f"{split} {size:,}" for split, size in info.sizes.items()],
        "data_set_loader": "run on the real data" if info.is_read else "not run on the real data",
    }


@command.command("check")
@click.argument("name", metavar="TASK")
@click.option("--task-option", multiple=True, metavar="KEY=VALUE", help="KEY=VALUE for the task plugin.")
@click.option(
    "--override", multiple=True, metavar="FILE", help="Python file whose hooks replace the task's; repeatable."
)
@click.option("--dataset-path", default="", metavar="PATH", help="Test set: a file, a folder or a Hugging Face id.")
@click.option("--items", type=click.IntRange(1), default=200, show_default=True, help="Number of test items to read.")
@click.option(
    "--time-limit",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that one call of a hook may take.",
)
@click.option("--rubric", default="", metavar="TEXT", help="Rubric of the judge; replaces the task's own.")
@click.option(
    "--judgements",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSONL of answers with labels (input, output, score or right): measure how far the judge agrees.",
)
@click.option("--judge-teacher", default="", metavar="NAME[:MODEL]", help="Teacher that judges. [default: procedural]")
@click.option(
    "--judge-teacher-option", multiple=True, metavar="KEY=VALUE", help="KEY=VALUE for the teacher that judges."
)
@click.option("--budget", type=float, metavar="DOLLARS", help="Maximum cost of the judgements of this check.")
@click.option(
    "--price", multiple=True, metavar="MODEL=PROMPT,COMPLETION", help="Price in dollars per million tokens; repeatable."
)
@click.option("--cache-dir", type=click.Path(path_type=Path), default=Path(".dsrl"), help="Folder of teacher replies.")
@json_option
def check_command(
    name: str,
    task_option: tuple[str, ...],
    override: tuple[str, ...],
    dataset_path: str,
    items: int,
    time_limit: float,
    rubric: str,
    judgements: Path | None,
    judge_teacher: str,
    judge_teacher_option: tuple[str, ...],
    budget: float | None,
    price: tuple[str, ...],
    cache_dir: Path,
    as_json: bool,
) -> None:
    """Check a task before it costs anything. The exit code is 1 if a check fails.

    The hooks are called as a run calls them, in a child process with a time limit: gold labels are read and are right
    answers, a right answer earns more than a wrong one, garbage earns nothing and never raises, answers that need no
    thought earn no more than the best guess, and another process gives the same rewards. docs/tasks.md describes every
    check.

    With --judgements, the judge of a task with a rubric judges the answers in FILE, which costs what its teacher costs: how
    far it agrees with the labels is one more check.
    """
    from dsrl.plugins.binding import parse_options
    from dsrl.plugins.task_checks.run import CheckSettings, check_task
    from dsrl.types import PluginRef

    ref = PluginRef("task", name, parse_options(task_option, "--task-option"), override)
    judge_check = None
    if judgements is not None:
        from dsrl.pipeline.judge_agreement import prepare_check
        from dsrl.pipeline.workspace import Workspace

        judge_check = prepare_check(
            judgements,
            Workspace(cache=cache_dir),
            task=name,
            task_option=ref.options,
            override=override,
            rubric=rubric,
            teacher=judge_teacher or "procedural",
            teacher_option=parse_options(judge_teacher_option, "--judge-teacher-option"),
            budget=budget,
            price=price,
        )
    elif judge_teacher or judge_teacher_option or budget is not None or price:
        raise SettingsError("--judge-teacher, --budget and --price have no effect without --judgements FILE")
    settings = CheckSettings(dataset_path, items, time_limit, is_judged=bool(rubric))
    report = check_task(ref, settings, lambda check: print_note(f"check: {check}"))
    if judge_check is not None:
        report = _add_judgements(report, judge_check)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    if not report.has_passed:
        sys.exit(1)


def _add_judgements(report: TaskReport, check: JudgeCheck) -> TaskReport:
    """Return a report with the check of the judge; it is skipped, and nothing is paid, if another check has failed."""
    from dsrl.pipeline.judge_agreement import JUDGEMENTS, run_check
    from dsrl.plugins.task_checks.records import skip

    print_note(f"check: {JUDGEMENTS}")
    failed = skip(JUDGEMENTS, "another check has failed, so no judgement was paid for")
    result = run_check(check, print_note) if report.has_passed else failed
    return replace(report, results=(*report.results, result))


def _print_report(report: TaskReport) -> None:
    rows = [[result.name, result.verdict, result.message] for result in report.results]
    print_table(f"Task {report.task} ({report.distribution} {report.version})", ["check", "verdict", "what"], rows)
    for result in report.results:
        for finding in result.findings[:_SHOWN_FINDINGS]:
            print_line(f"{result.name}: {finding}")
        if len(result.findings) > _SHOWN_FINDINGS:
            print_line(f"{result.name}: and {len(result.findings) - _SHOWN_FINDINGS} more; --json shows them")
        if result.warning:
            print_line(f"{result.name}: warning: {result.warning}")
    counts = Counter(result.verdict for result in report.results)
    print_line(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")


@command.command("export")
@click.argument("name", metavar="TASK")
@click.option("--to", "library", required=True, metavar="LIBRARY", help="The library to export to: verifiers.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder of the package. [default: dsrl-TASK-env]"
)
@click.option("--task-option", multiple=True, metavar="KEY=VALUE", help="KEY=VALUE for the task plugin.")
@click.option(
    "--dataset-path", default="", metavar="PATH", help="Items of the package: a file, a folder or a Hugging Face id."
)
@json_option
def export_command(
    name: str, library: str, out: Path | None, task_option: tuple[str, ...], dataset_path: str, as_json: bool
) -> None:
    """Write a task as a package for another library, with the task's own reward.

    The package is an environment for verifiers. It names the task and its options, and needs dsrl and the task's
    distribution to be installed; the items are read when it is used. Nothing is overwritten.
    """
    from dsrl.export.package import describe_task, get_exporter, write_package
    from dsrl.plugins.binding import load, parse_options
    from dsrl.types import PluginRef

    make_files = get_exporter(library)
    task = load(PluginRef("task", name, parse_options(task_option, "--task-option")), "task")
    exported = describe_task(task, dataset_path)
    files = make_files(exported)
    folder = out or Path(exported.distribution)
    write_package(files, folder)
    if not exported.has_data:
        print_note(f"The task {name!r} has no data set of its own; the package needs one in its setting dataset_path.")
    if as_json:
        names = {"distribution": exported.distribution, "module": exported.module}
        print_json({"task": name, "to": library, **names, "folder": str(folder), "files": sorted(files)})
        return
    print_line(f"task {name!r} for {library} in {folder}:")
    for path in sorted(files):
        print_line(f"  {path}")
