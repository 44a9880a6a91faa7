"""``dsrl plugins check``: what is wrong with an installed plugin.

The contract is checked without running a hook. Then the cheap hooks, which cost no money and load no model, are called with
texts of the kind that a model or a user can produce: empty, very long, badly nested, not storable. A plugin can hang or end
its process, so the calls are made in a child process with a time limit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dsrl.errors import DsrlError, SettingsError
from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import Plugin, check_contract, load
from dsrl.plugins.discovery import PluginInfo
from dsrl.types import UNREADABLE, PluginRef

#: Seconds that the calls of one plugin's cheap hooks may take together, the import of the plugin included.
TIME_LIMIT = 60.0
#: What models and users write when they do not write an answer.
TRASH = (
    "",
    " \n\t",
    "\x00",
    "\ud800",
    "<answer>",
    "</answer><answer>",
    "<answer>" * 2000,
    "\\boxed{" * 2000,
    "{" * 5000,
    "[1, 2" * 2000,
    "a" * 100_000,
    "(a+" * 20_000,
    "9" * 10_000,
    "\N{ARABIC-INDIC DIGIT FOUR}\N{RIGHT-TO-LEFT OVERRIDE}\N{COMBINING ACUTE ACCENT}",
    "None",
)


def check_plugin(info: PluginInfo, time_limit: float = TIME_LIMIT) -> list[str]:
    """Return the faults of an installed plugin, one sentence each; an empty list if there are none.

    Args:
        info: the plugin.
        time_limit: seconds that its cheap hooks may take together.
    """
    try:
        if info.kind == "model":
            resolve_model(info.name)
            return []
        check_contract(info)
    except DsrlError as error:
        return [str(error)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        command = [sys.executable, "-m", "dsrl.plugins.checks", info.kind, info.name, str(report)]
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=time_limit, check=False
            ).returncode
            fault = f"ended its process with exit code {ended}" if ended else ""
        except subprocess.TimeoutExpired:
            fault = f"did not return within {time_limit:.0f} s"
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    records = [json.loads(line) for line in lines]
    faults = [record["fault"] for record in records if "fault" in record]
    calls = [record["call"] for record in records if "call" in record]
    if fault:
        faults.append(f"{info}: {f'its hook {calls[-1]}' if calls else 'its import'} {fault}")
    return faults


def call_cheap_hooks(plugin: Plugin[Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the calls of a bound plugin's cheap hooks: what is called, and a function that calls it.

    The function raises a DsrlError if the hook is against its contract.
    """
    hook, kind = plugin.hook, plugin.ref.kind
    if kind == "task":
        for name in (
            "description",
            "input_instruction",
            "output_instruction",
            "rubric",
            "answer_format",
            "domains",
            "dataset_info",
            "base_model",
        ):
            yield name, getattr(hook, name)
        yield "demos", partial(_check_demos, plugin)
        for text in TRASH:
            yield f"process_prediction on {_show(text)}", partial(_check_reader, plugin, text)
            yield f"process_label on {_show(text)}", partial(hook.process_label, output=text)
            yield f"eval on {_show(text)}", partial(hook.eval, prediction=text, label="yes")
            yield f"reward on {_show(text)}", partial(hook.reward, output=text, label="yes")
        if plugin.implements("procedural_sample"):
            yield "procedural_sample", partial(hook.procedural_sample, seed=0, difficulty=1, passage="")
            yield "procedural_sample", partial(hook.procedural_sample, seed=1, difficulty=99, passage=TRASH[6])
        if plugin.implements("procedural_solve"):
            for text in TRASH:
                yield f"procedural_solve on {_show(text)}", partial(hook.procedural_solve, input=text)
    elif kind == "teacher":
        for model in ("", "no such model"):
            yield f"price on {_show(model)}", partial(hook.price, model=model)
            yield f"max_n on {_show(model)}", partial(hook.max_n, model=model)


def _check_demos(plugin: Plugin[Any]) -> None:
    # A demonstration whose own output cannot be read is a fault of the task that would only show in a run.
    for number, demo in enumerate(plugin.hook.demos(domain=""), start=1):
        if plugin.hook.process_label(output=demo.output, input=demo.input) is UNREADABLE:
            raise SettingsError(
                f"{plugin.ref.kind} {plugin.name!r}: process_label cannot read its demonstration {number}"
            )


def _check_reader(plugin: Plugin[Any], text: str) -> None:
    if plugin.hook.process_prediction(output=text) == "":
        raise SettingsError(
            f"{plugin.ref.kind} {plugin.name!r}: its hook process_prediction returned an empty answer for {_show(text)}; "
            "return dsrl.UNREADABLE if there is no answer"
        )


def _show(text: str) -> str:
    return ascii(text) if len(text) <= 24 else f"{text[:16]!a}... ({len(text):,} characters)"


def _main(kind: str, name: str, report: str) -> None:
    """Call the cheap hooks of a plugin in this process and write what happens to a file, line by line."""
    with Path(report).open("w", encoding="utf-8") as file:

        def write(**record: str) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        try:
            plugin = load(PluginRef(kind, name), kind)
        except SettingsError:
            return  # The plugin needs an option, for example the folder of a model, so its hooks cannot be called here.
        except DsrlError as error:
            write(fault=str(error))
            return
        failed = set()
        for call, function in call_cheap_hooks(plugin):
            hook = call.partition(" ")[0]
            if hook in failed:
                continue  # one fault per hook is enough
            write(call=call)
            try:
                function()
            except DsrlError as error:
                failed.add(hook)
                write(fault=str(error))


if __name__ == "__main__":
    _main(*sys.argv[1:])
