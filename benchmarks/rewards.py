"""Claim: a core computes tens of thousands of rewards a second, and a hostile answer costs its limit and no more.

    python benchmarks/rewards.py
    python benchmarks/rewards.py --poison

Of each installed task: the rewards that one process and two processes compute in a second, through the guarded hook
`reward`, as a trainer calls it. A third of the answers are right, a third are wrong and a third cannot be read; most have
some sentences of thought before them, and each is a text of its own. The second kind of `math` and of `text2sql` asks the
worker for each readable answer: expressions, and queries that are no copy of the label. Seconds of the processor include
those of the worker.

With `--poison`: what single hostile answers cost, and the reward of a right answer after each of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from dsrl.plugins.binding import load
from dsrl.plugins.discovery import list_plugins
from dsrl.types import PluginRef

THOUGHTS = (
    "First I read the question. Then I add the numbers of both months, and compare the sum with the other one. " * 3
)
#: Form of an answer -> an output with it; the mark stands for the answer.
FORMS = {
    "tag": "<think> " + THOUGHTS + "</think> <answer> {} </answer>",
    "boxed": THOUGHTS + "so \\boxed{{{}}}.",
    "hashes": THOUGHTS + "\n#### {}",
}
#: How answers are written; half of them plainly.
SPELLINGS = ("{}", "{}", "{}", "{}.", "The answer is {}.", "**{}**")
UNREADABLE = (THOUGHTS, "<think> " + THOUGHTS, "", THOUGHTS + "I do not know.")
#: Tasks that ask a worker, and what they do in the second kind of answers.
WORKERS = {"math": "expressions", "text2sql": "queries"}
ITEMS = 60
#: Parts of the answers, each measured alone; the median counts.
ROUNDS = 5


class Answer(NamedTuple):
    """What a reward is computed for, and the reward."""

    output: str
    label: str
    input: str
    reward: float


class Speed(NamedTuple):
    """What one process measured: when it began and ended, by the clock, and its seconds of the processor (by the median)."""

    start: float
    end: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", help="measure only this task; can be repeated")
    parser.add_argument("--answers", type=int, default=30_000, help="answers of a process, without a worker")
    parser.add_argument("--worker-answers", type=int, default=900, help="answers of a process, with a worker")
    parser.add_argument("--poison", action="store_true", help="measure hostile answers instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    names = options.task or [info.name for info in list_plugins("task") if info.distribution == "dsrl-tasks"]
    if options.poison:
        poisons = [measure_poisons(name) for name in names]
        print(json.dumps(poisons) if options.json else format_poisons(poisons))
        return
    cases = [(name, False) for name in names] + [(name, True) for name in names if name in WORKERS]
    speeds = {}
    for name, has_worker in cases:
        n = options.worker_answers if has_worker else options.answers
        title = f"{name}, {WORKERS[name]}" if has_worker else name
        speeds[title] = {processes: measure(name, n, has_worker, processes) for processes in (1, 2)}
    print(json.dumps(speeds) if options.json else format_speeds(speeds))


# -- the answers ------------------------------------------------------------------------------------------------------


def make_answers(name: str, hook: Any, n: int, has_worker: bool) -> list[Answer]:
    """Make answers of the task's own form: right, wrong and unreadable ones in turns.

    Args:
        name: the name of the task.
        hook: its hooks.
        n: how many.
        has_worker: whether each readable answer must be compared in the worker of the task.
    """
    answer_format, form = hook.answer_format(), get_form(name, hook)
    items, rng = read_items(hook), random.Random(0)
    answers = []
    for number in range(n):
        input, label, other = items[number // 3 % len(items)]
        kind, reward = number % 3, (1.0, 0.1, 0.0)[number % 3]
        if kind == 2:
            output = rng.choice((*UNREADABLE, form.format(f"{label} or {other}") if answer_format else "no answer"))
        elif has_worker:
            label, right, wrong = write_for_worker(name, label, number)
            output = form.format((right, wrong)[kind])
        else:
            spelling = "{}" if answer_format is None else rng.choice(SPELLINGS)
            output = form.format(spelling.format((label, other)[kind]))
        answers.append(Answer(f"{output}{' ' * (number % 7)}\n", label, input, reward))
    return answers


def get_form(name: str, hook: Any) -> str:
    """Return an output of the form that the task reads, with a mark for the answer."""
    answer_format = hook.answer_format()
    return FORMS[answer_format.form if answer_format else {"math": "boxed"}.get(name, "tag")]


def read_items(hook: Any) -> list[tuple[str, str, str]]:
    """Return items: input, label and another label. Tasks without a test set of their own get a question made up here."""
    if hook.procedural_sample(seed=0, difficulty=2, passage="", domain="") is None:
        choices = hook.answer_format().choices
        options = "".join(f"\n{letter}: the answer number {i}" for i, letter in enumerate(choices) if len(letter) == 1)
        pairs = [(f"Which of these is right in case {i}?{options}", choices[i % len(choices)]) for i in range(ITEMS)]
    else:
        examples = list(islice(hook.load_dataset(path="", split="test"), ITEMS))
        pairs = [(e.input, str(hook.process_label(output=e.output, input=e.input))) for e in examples]
    labels = [label for _, label in pairs]
    return [
        (input, label, next(o for o in labels[i:] + labels if o != label)) for i, (input, label) in enumerate(pairs)
    ]


def write_for_worker(name: str, label: str, number: int) -> tuple[str, str, str]:
    """Return a label, a right and a wrong answer that only the worker can tell apart, new ones for each number."""
    if name == "math":
        return f"x^{{2}}+{number + 2}", f"{number + 2}+x^{{2}}", f"{number + 3}+x^{{2}}"
    most = 100_000 + number
    return label, f"SELECT * FROM ({label}) LIMIT {most}", f"SELECT * FROM ({label}) LIMIT 1 OFFSET {most}"


# -- speed ------------------------------------------------------------------------------------------------------------


def measure(name: str, n: int, has_worker: bool, processes: int) -> dict[str, float]:
    """Return the rewards per second by the clock, and per second of so many processors."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    arguments = (name, n, has_worker, barrier, results)
    children = [context.Process(target=compute_rewards, args=arguments) for _ in range(processes)]
    for child in children:
        child.start()
    speeds: list[Speed] = [results.get(timeout=600) for _ in children]
    for child in children:
        child.join()
    seconds = max(speed.end for speed in speeds) - min(speed.start for speed in speeds)
    return {"clock": processes * n / seconds, "cpu": processes * n / (sum(speed.cpu for speed in speeds) / processes)}


def compute_rewards(name: str, n: int, has_worker: bool, barrier: Any, results: Any) -> None:
    """Compute the rewards of n answers in this process, at the same time as other processes."""
    hook = load(PluginRef("task", name), "task").hook
    answers = make_answers(name, hook, n + 60, has_worker)
    for answer in answers[n:]:
        reward = hook.reward(output=answer.output, label=answer.label, input=answer.input)
        assert abs(reward - answer.reward) < 1e-9, (answer, reward)
    del answers[n:]
    barrier.wait()
    start, cpu = time.monotonic(), []
    for part in range(ROUNDS):
        before = read_cpu_seconds()
        for output, label, input, _ in answers[part::ROUNDS]:
            hook.reward(output=output, label=label, input=input)
        cpu.append(read_cpu_seconds() - before)
    results.put(Speed(start, time.monotonic(), statistics.median(cpu) * ROUNDS))


def read_cpu_seconds() -> float:
    """Return the seconds of the processor that this process and its living children have used."""
    seconds = time.process_time()
    for thread in Path("/proc/self/task").iterdir():
        for child in (thread / "children").read_text().split():
            # The name of the program stands in brackets and can hold spaces.
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / 100
    return seconds


def format_speeds(speeds: dict[str, dict[int, dict[str, float]]]) -> str:
    lines = [
        "| task | rewards per CPU second, 1 process | 2 processes, per second of 2 CPUs | 1 process, by the clock "
        "| 2 processes, by the clock |",
        "| --- | --- | --- | --- | --- |",
    ]
    for title, figures in speeds.items():
        cells = [figures[1]["cpu"], figures[2]["cpu"], figures[1]["clock"], figures[2]["clock"]]
        lines.append(" | ".join([f"| {title}", *(f"{cell:,.0f}" for cell in cells)]) + " |")
    return "\n".join(lines)


# -- hostile answers --------------------------------------------------------------------------------------------------

POISONS = ("tower of powers", "10 MB of digits", "billion-row join", "catastrophic pattern")
#: What limits the time of a hostile answer.
LIMITS = {"math": "worker: 2 s of CPU", "text2sql": "worker: 5 s of CPU, 20 million steps of SQLite a statement"}
NO_WORKER = "an answer of 10,000 characters"


def make_poisons(name: str, input: str) -> dict[str, list[str]]:
    """Return kind of hostile answer -> such answers, without the form of an answer."""
    join = ["SELECT COUNT(*) FROM a, a AS b, a AS c, a AS d"]
    # Texts that make a careless expression try every way to divide them.
    texts = ("so the answer is ", "A or ", "not (", "- ", "the ", "**", "1,", "a", " ", "9/", "\\text{", "<b>")
    longest = 1_900 if name == "math" else 9_900
    patterns = [text * (longest // len(text)) + end for text in texts for end in ("!", "")]
    if name == "math":
        patterns += ["(" * 140 + "x" + ")" * 140, "\\sqrt{" * 40 + "2" + "}" * 40, "\\frac{1}{" * 30 + "x" + "}" * 30]
    if name == "text2sql":
        table = input.partition("CREATE TABLE ")[2].partition(" ")[0]
        join = [
            f"SELECT COUNT(*) FROM {', '.join(f'{table} AS t{i}' for i in range(12))}",
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000000) SELECT COUNT(*) FROM c",
        ]
        text = f"replace('{'a' * 900}', 'a', '{'a' * 900}')"
        patterns = [
            f"SELECT COUNT(*) FROM {table} WHERE {text} {word}"
            for word in (f"GLOB '{'*a' * 40}*b'", f"LIKE '{'%a' * 40}%b'")
        ]
    tower = "9^{9^{9^{9^{9^{9}}}}}" if name == "math" else "9^9^9^9^9^9"
    return dict(zip(POISONS, ([tower], ["9" * 10_000_000], join, patterns), strict=True))


def measure_poisons(name: str) -> dict[str, Any]:
    """Return what the slowest hostile answer of each kind costs, and what the next right answer earns and takes.

    Raises:
        AssertionError: a hostile answer is paid like a right one, or the next right answer is not.
    """
    hook = load(PluginRef("task", name), "task").hook
    right = [answer for answer in make_answers(name, hook, 300, name in WORKERS) if answer.reward == 1.0]
    compute(hook, right.pop(), 1.0)  # it starts the worker
    seconds = dict.fromkeys(POISONS, 0.0)
    after = 0.0
    for kind, texts in make_poisons(name, right[0].input).items():
        for text in texts:
            target = right.pop()
            hostile = target._replace(output=get_form(name, hook).format(text))
            seconds[kind] = max(seconds[kind], compute(hook, hostile, below=1.0))
            after = max(after, compute(hook, right.pop(), 1.0))
    return {"task": name, "limit": LIMITS.get(name, NO_WORKER), "seconds": seconds, "after": after}


def compute(hook: Any, answer: Answer, wanted: float | None = None, below: float | None = None) -> float:
    """Compute a reward, check it, and return the seconds by the clock."""
    start = time.monotonic()
    reward = float(hook.reward(output=answer.output, label=answer.label, input=answer.input))
    seconds = time.monotonic() - start
    assert wanted is None or reward == wanted, (answer.output[-300:], reward)
    assert below is None or reward < below, (answer.output[-300:], reward)
    return seconds


def format_poisons(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"| task | limit | {' | '.join(POISONS)} | the next right answer |", "| --- " * (len(POISONS) + 3) + "|"]
    for row in rows:
        times = [f"{seconds:.2f} s" for seconds in (*row["seconds"].values(), row["after"])]
        lines.append(f"| {row['task']} | {row['limit']} | {' | '.join(times)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
