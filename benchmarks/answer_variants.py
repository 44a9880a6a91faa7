"""Claim: answers that models write differently are read right, and what is no answer is not paid.

    git clone https://github.com/gydpku/Data_Synthesis_RL /tmp/original
    python benchmarks/answer_variants.py --original /tmp/original

Counts how many answers of `contrib_tasks/tests/data/answer_variants*.toml` get the expected verdict (right, wrong or
unreadable) from our tasks, and from the functions of the paper's own code. Those run in a process of their own, with a time
limit. Their verdict: unreadable if `process_prediction` returns None, else what their comparison says. Where the module of a
comparison is not in their repository (cfa, cqa, medqa), texts are compared without case.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Seconds for one answer, and for all.
LIMIT, TOTAL_LIMIT = 2, 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, help="a checkout of the paper's code")
    parser.add_argument("--show", action="store_true", help="print the answers that the paper's code judges otherwise")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        judge_by_original(options.original)
        return
    variants = load_test().VARIANTS
    verdicts = {"dsrl": judge_by_tasks(variants)}
    if options.original:
        verdicts["original"] = run_worker(options.original, variants)
    if options.show:
        for variant, theirs in zip(variants, verdicts.get("original", []), strict=False):
            if theirs and theirs != variant["verdict"]:
                print(f"{variant['task']}: {variant['output']!r}, label {variant['label']!r}: {theirs}")
    report(variants, verdicts, options.json)


def load_test() -> Any:
    """Load the test of the table: it knows the forms of tasks that are not installed."""
    path = ROOT / "contrib_tasks/tests/test_answer_variants.py"
    spec = importlib.util.spec_from_file_location("test_answer_variants", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judge_by_tasks(variants: list[dict[str, Any]]) -> list[str | None]:
    """Return the verdicts of our tasks; None where the task is not installed."""
    from dsrl.plugins.binding import load
    from dsrl.plugins.discovery import list_plugins
    from dsrl.types import PluginRef

    test = load_test()
    installed = {info.name for info in list_plugins("task")}
    hooks = {task: load(PluginRef("task", task), "task").hook for task in test.TASKS if task in installed}
    verdicts: list[str | None] = []
    for variant in variants:
        task = variant["task"]
        if task in hooks:
            verdicts.append(test.judge_by_task(hooks[task], variant))
        elif task in test.FORMATS:
            verdicts.append(test.judge_by_format(test.FORMATS[task], variant))
        else:
            verdicts.append(None)
    return verdicts


def report(variants: list[dict[str, Any]], verdicts: dict[str, list[str | None]], as_json: bool) -> None:
    """Print how many verdicts are the expected ones, by task, and how many answers are paid that must not be."""
    tasks = [*dict.fromkeys(variant["task"] for variant in variants), "all"]
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        chosen = [i for i, variant in enumerate(variants) if task in ("all", variant["task"])]
        rows[task] = {"answers": len(chosen)}
        for who, given in verdicts.items():
            pairs = Counter((variants[i]["verdict"], given[i]) for i in chosen)
            judged = sum(n for (_, verdict), n in pairs.items() if verdict is not None)
            rows[task][who] = {
                "judged": judged,
                "as_expected": sum(n for (expected, verdict), n in pairs.items() if expected == verdict),
                "paid_wrongly": sum(n for (expected, v), n in pairs.items() if v == "right" and expected != "right"),
                "right_but_unpaid": sum(n for (e, v), n in pairs.items() if e == "right" and v not in ("right", None)),
            }
    if as_json:
        print(json.dumps(rows))
        return
    print("| task | answers |" + "".join(f" {who} | paid wrongly | right but unpaid |" for who in verdicts))
    print("| --- | --- |" + " --- | --- | --- |" * len(verdicts))
    for task, row in rows.items():
        counts = [row[who] for who in verdicts]
        cells = [
            f" {c['as_expected']} of {c['judged']} | {c['paid_wrongly']} | {c['right_but_unpaid']} |" for c in counts
        ]
        print(f"| {task} | {row['answers']} |" + "".join(cells))


# -- the paper's own code ---------------------------------------------------------------------------------------------


def run_worker(original: Path, variants: list[dict[str, Any]]) -> list[str | None]:
    """Run the paper's functions in another process, which nothing that they do can disturb."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker", "--original", str(original.resolve())],
        input=json.dumps(variants),
        capture_output=True,
        text=True,
        timeout=TOTAL_LIMIT,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the functions of {original} could not be run:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def judge_by_original(original: Path) -> None:
    """Read variants from stdin, and write the verdicts of the paper's functions to stdout."""
    variants = json.load(sys.stdin)
    out = os.dup(1)
    sys.path.insert(0, str(original / "src"))
    # Its package `verl` imports much that these functions do not need.
    for name, folder in (("verl", original / "verl"), ("verl.utils", original / "verl/utils")):
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    signal.signal(signal.SIGALRM, stop)
    verdicts = []
    with open(os.devnull, "w") as devnull, contextlib.redirect_stdout(devnull):
        judges = {task: find_functions(original, task) for task in {variant["task"] for variant in variants}}
        for variant in variants:
            signal.alarm(LIMIT)
            try:
                verdicts.append(judge(judges[variant["task"]], variant))
            except Exception as error:  # noqa: BLE001 - any fault of the functions is their verdict
                verdicts.append(f"failed with {type(error).__name__}")
            finally:
                signal.alarm(0)
    os.write(out, json.dumps(verdicts).encode())


def stop(*_: Any) -> None:
    raise TimeoutError


def find_functions(original: Path, task: str) -> tuple[Any, Any] | None:
    """Return ``process_prediction`` of a task and the module of its comparison, if they can be imported."""
    found = []
    for name in ("process_prediction", "eval_function"):
        try:
            found.append(importlib.import_module(f"eval.tasks.{task}.{name}"))
        except Exception:  # noqa: BLE001 - a module that is missing, or is no Python
            found.append(None)
    return (found[0].process_prediction, found[1]) if found[0] else None


def judge(functions: tuple[Any, Any] | None, variant: dict[str, Any]) -> str | None:
    if functions is None:
        return None
    process_prediction, comparison = functions
    prediction = process_prediction(variant["output"])
    if prediction is None:
        return "unreadable"
    if hasattr(comparison, "compute_score"):
        is_right = bool(comparison.compute_score(variant["output"], variant["label"], valid=True))
    elif comparison is not None:
        is_right = bool(comparison.eval_function(prediction, variant["label"]))
    else:
        is_right = str(prediction).casefold() == variant["label"].casefold()
    return "right" if is_right else "wrong"


if __name__ == "__main__":
    main()
