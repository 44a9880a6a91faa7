"""``dsrl doctor``: what this machine has, which samplers and trainers it can run, and what the others need."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsrl.cli.common import Command, json_option, print_json, print_line

if TYPE_CHECKING:
    from dsrl.plugins.diagnosis import Diagnosis

#: Exit code if something is missing, but a run can do without it.
_ONLY_WARNINGS = 3


@click.command("doctor", cls=Command)
@click.option("--base-model", default="", help="Also look at this model: a name, a folder or a hub id.")
@click.option("--ray-address", default="", metavar="HOST:PORT", help="Also look at this Ray cluster; auto finds one.")
@json_option
def command(base_model: str, ray_address: str, as_json: bool) -> None:
    """Show which samplers and trainers this machine or cluster can run.

    Each plugin is asked in a process of its own; nothing is installed, downloaded or paid. What is missing is shown with
    the command that helps.

    Exit codes: 0 all that is installed works; 3 something that is installed lacks a part; 1 a plugin is broken, or no
    sampler or no trainer can work.
    """
    from dsrl.plugins.base_models import resolve_model
    from dsrl.plugins.diagnosis import diagnose_plugins

    model = resolve_model(base_model).location if base_model else ""
    machine = _look_at_machine()
    found = diagnose_plugins({"model": model, "ray_address": ray_address})
    problems = _list_problems(found)
    code = _choose_code(found, problems)
    if as_json:
        plugins = [{**asdict(one), "is_installed": one.is_installed, "level": one.level} for one in found]
        print_json({"machine": machine, "plugins": plugins, "problems": problems, "exit_code": code})
    else:
        _print(machine, found, problems)
    sys.exit(code)


def _look_at_machine() -> dict[str, Any]:
    from dsrl.machine import count_cpus, list_gpus, read_free_memory, read_total_memory

    return {
        "python": platform.python_version(),
        "cpus": count_cpus(),
        "memory": read_total_memory(),
        "free_memory": read_free_memory(),
        "free_disk": shutil.disk_usage(Path.cwd()).free,
        "gpus": [asdict(gpu) for gpu in list_gpus()],
    }


def _list_problems(found: list[Diagnosis]) -> list[str]:
    problems = [
        f"{one.kind} {one.name}: {finding.text}"
        for one in found
        for finding in one.findings
        if one.is_installed and finding.level == "problem"
    ]
    for kind in ("sampler", "trainer"):
        if not any(one.kind == kind and one.is_installed and one.level != "problem" for one in found):
            problems.append(f"no {kind} can work here, so no run can; pip install ./plugins/dsrl-transformers")
    return problems


def _choose_code(found: list[Diagnosis], problems: list[str]) -> int:
    if problems:
        return 1
    return _ONLY_WARNINGS if any(one.is_installed and one.level == "warning" for one in found) else 0


def _print(machine: dict[str, Any], found: list[Diagnosis], problems: list[str]) -> None:
    memory, free = (
        f"{value / 1e9:.1f} GB" if value else "unknown" for value in (machine["memory"], machine["free_memory"])
    )
    print_line(f"machine  {machine['cpus']} CPUs, {memory} of memory ({free} free), Python {machine['python']}")
    print_line(f"         {machine['free_disk'] / 1e9:.0f} GB free on the disk of this folder")
    for number, gpu in enumerate(machine["gpus"]):
        total, unused = gpu["total_bytes"] / 1e9, gpu["free_bytes"] / 1e9
        print_line(f"         GPU {number}: {gpu['name']}, {total:.0f} GB ({unused:.0f} GB free)")
    if not machine["gpus"]:
        print_line("         no GPU that nvidia-smi shows")
    for one in found:
        state = {"ok": "works", "note": "works", "warning": "lacks a part", "problem": "cannot work"}[one.level]
        version = f" {one.version}" if one.version else ""
        print_line()
        print_line(
            f"{one.kind} {one.name} ({one.distribution}{version}): {state if one.is_installed else 'not installed'}"
        )
        for finding in one.findings:
            mark = {"ok": "+", "note": " ", "warning": "-", "problem": "!"}[finding.level]
            print_line(f"  {mark} {finding.text.removeprefix('not installed: ')}")
            if finding.mend:
                print_line(f"      {finding.mend}")
    print_line()
    print_line("\n".join(f"problem: {problem}" for problem in problems) or "A run can work here.")
