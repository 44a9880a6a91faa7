"""Claim: a core computes tens of thousands of rewards a second, and a hostile answer costs no more than about a second.

    python benchmarks/rewards.py

Of each installed task: the rewards that one process computes in a second of processor time, through the guarded hook
`reward`, as a trainer calls it. The answers are right, wrong and unreadable ones with some sentences of thought before them,
in turns. Then the processor time of a single answer of 10 MB, the slowest of some kinds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import cycle, islice
from typing import Any

from dsrl.plugins.binding import load
from dsrl.plugins.discovery import list_plugins
from dsrl.types import UNREADABLE, PluginRef

THOUGHTS = "First I read the question. Then I add the numbers of both months, and compare the sum with the other one. "
QUESTION = "Which of these is right? A: the first B: the second C: the third D: the fourth"
#: Answers of a form: the mark stands for an answer.
FORMS = {
    "tag": "<think> " + THOUGHTS * 3 + "</think> <answer> {} </answer>",
    "boxed": THOUGHTS * 3 + "so \\boxed{{{}}}.",
    "hashes": THOUGHTS * 3 + "\n#### {}",
    "choice": "{}",
}
PIECES = ("9", "<", "<answer>", "#### ", "A ", "9^", "\\boxed{", "{", " ", "or ", "é")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", help="measure only this task; can be repeated")
    parser.add_argument("--answers", type=int, default=10_000, help="answers in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    names = options.task or [info.name for info in list_plugins("task")]
    result = {name: measure(name, options.answers, options.rounds) for name in names}
    if options.json:
        print(json.dumps(result))
        return
    print("| task | rewards per second of one core | the slowest answer of 10 MB |")
    print("| --- | --- | --- |")
    for name, figures in result.items():
        print(f"| {name} | {figures['per_second']:,.0f} | {figures['slowest_10_mb']:.2f} s |")


def measure(name: str, n: int, rounds: int) -> dict[str, float]:
    """Return rewards per second, the median of the rounds, and the seconds that the slowest answer of 10 MB takes."""
    hook = load(PluginRef("task", name), "task").hook
    answers, label, question = make_answers(hook)
    # Every answer is a string of its own, as those of a model are.
    batch = [f"{answer} " for answer in islice(cycle(answers), n)]
    speeds = []
    for _ in range(rounds):
        start = time.process_time()
        for answer in batch:
            hook.reward(output=answer, label=label, input=question)
        speeds.append(n / (time.process_time() - start))
    slowest = 0.0
    for piece in PIECES:
        huge = piece * (10_000_000 // len(piece))
        for output in (huge, f"<answer>{huge}</answer>", f"#### {huge}", f"\\boxed{{{huge}}}"):
            start = time.process_time()
            hook.reward(output=output, label=label, input=question)
            slowest = max(slowest, time.process_time() - start)
    return {"per_second": statistics.median(speeds), "slowest_10_mb": slowest}


def make_answers(hook: Any) -> tuple[list[str], str, str]:
    """Return answers of the task's own form, their label, and the input, which rules write if they can."""
    answer_format = hook.answer_format()
    choices = (
        answer_format.choices if answer_format and answer_format.choices else ("72", "$1,234.50", "72 apples", "1/2")
    )
    if hook.procedural_sample(seed=0, difficulty=2, passage="") is None:
        question = QUESTION
    else:
        question = hook.procedural_sample(seed=0, difficulty=2, passage="").input
    form = FORMS[answer_format.form if answer_format else "tag"]
    spellings = ["{}", "{}.", "The answer is {}.", "**{}**"]
    answers = [form.format(spelling.format(choice)) for choice in choices for spelling in spellings]
    answers += [form.format(f"{choices[0]} or {choices[1]}"), THOUGHTS * 3]
    labels = (hook.process_label(output=answer, input=question) for answer in answers)
    return answers, next(label for label in labels if label is not UNREADABLE), question


if __name__ == "__main__":
    main()
