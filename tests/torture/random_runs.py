"""One random run: it is disturbed, goes on until it ends by itself, and is judged by the provider's book."""

from __future__ import annotations

import re
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from torture.commands import KEY, Child, Ended, arguments_of, make_folder
from torture.plan import Disturbance, Plan, plan_of
from torture.provider import DELIVERED, PRICE, Provider, Served, read_book
from torture.replies import serials_in

#: Undisturbed sittings that a run may take to end by itself.
LAST_SITTINGS = 3
#: Seconds before a kill -9 in which a reply may have arrived without being on the disk, on a busy machine.
UNWRITTEN = 2.0
_CENT = 0.01


@dataclass
class Outcome:
    """What came of one run; figures of several are added up.

    Attributes:
        runs, sittings, requests, faults, kills, sigterms, sigints: how much of it there was.
        billed_usd: by the provider's book.
        over_the_cap_usd: of that, above what the run was allowed at that time.
        lost: replies that were billed and delivered, or would have been to a client that waits for them, and are not stored.
        twice: replies that were paid for though another process had them, or was being given them.
        cut_by_kill: replies that a kill -9 cut off; they may be asked for again.
        strangers: requests that followed a redirect to another host.
        different: samples that differ from those of an undisturbed run.
        tracebacks, hangs: of processes.
        failures: all that must not be, in words.
    """

    runs: int = 0
    sittings: int = 0
    requests: int = 0
    faults: int = 0
    kills: int = 0
    sigterms: int = 0
    sigints: int = 0
    billed_usd: float = 0.0
    over_the_cap_usd: float = 0.0
    lost: int = 0
    twice: int = 0
    cut_by_kill: int = 0
    strangers: int = 0
    different: int = 0
    tracebacks: int = 0
    hangs: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add the figures of another."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def run_seed(seed: int, index: Path, keep: Path | None = None) -> Outcome:
    """Make the run of a seed.

    Args:
        index: of the passage library, see ``make_index``.
        keep: folder to work in and to leave as it is; None: one that is thrown away.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"torture-{seed}-", ignore_cleanup_errors=True) as temporary:
        outcome = _Run(plan_of(seed), index, keep or Path(temporary)).make()
    outcome.seconds = time.monotonic() - began
    return outcome


class _Run:
    def __init__(self, plan: Plan, index: Path, folder: Path) -> None:
        self._plan, self._index, self._folder = plan, index, folder
        self._book = folder / "book.jsonl"
        self._outcome = Outcome(runs=1)
        #: By key: what was sent to the process, and when.
        self._signals: dict[str, tuple[signal.Signals, float]] = {}

    def make(self) -> Outcome:
        plan, outcome = self._plan, self._outcome
        folder = make_folder(self._folder / "disturbed", self._index)
        with Provider(self._book, plan.seed, plan.faults, plan.rate, plan.delay) as provider:
            for number, disturbances in enumerate(plan.sittings):
                self._sit(provider, folder, number, disturbances)
                self._check_cap(plan.budget)
            provider.quiet = True
            enough = None if plan.budget is None else plan.budget * 20 + 10
            for number in range(len(plan.sittings), len(plan.sittings) + LAST_SITTINGS):
                codes = self._sit(provider, folder, number, [None] * plan.processes, enough)
                if not any(codes):
                    break
            else:
                self._fail(f"the run does not end by itself: exit codes {codes}")
            self._check_cap(enough)
            outcome.strangers = len(provider.stranger.requests)
            outcome.faults = sum(n for name, n in provider.met.items() if name != "none")
            outcome.requests = provider.met.total()
            if outcome.strangers:
                self._fail(f"{outcome.strangers} requests followed a redirect to another host")
            self._check_replies(read_book(self._book), folder / ".dsrl" / "calls.db")
            quiet = make_folder(self._folder / "quiet", self._index)
            ended = Child(self._arguments(provider, 0, None), quiet, "quiet").ended()
            if ended.code:
                raise RuntimeError(f"the undisturbed run of seed {plan.seed} failed: {ended.stderr}")
        self._check_samples(folder, quiet)
        return outcome

    def _fail(self, text: str) -> None:
        self._outcome.failures.append(text)

    def _arguments(self, provider: Provider, run: int, budget: float | None) -> list[str]:
        plan = self._plan
        address = provider.url if plan.teacher.startswith("openai") else provider.root
        options = [f"base_url={address}", f"api_key_env={KEY}"]
        if plan.timeout is not None:
            options.append(f"timeout={plan.timeout}")
        settings = {
            "task": "mednli",
            "name": f"run-{run}",
            "seed": plan.run_seed,
            "teacher": plan.teacher,
            "teacher_option": options,
            "price": [f"{plan.model}={PRICE[0]},{PRICE[1]}"],
            "teacher_max_tokens": 300,
            "concurrency": plan.concurrency,
            "samples": plan.samples,
            "votes": plan.votes,
            "attempts": 2,
            "stop_after": plan.stop_after,
        }
        if budget is not None:
            settings["budget"] = budget
        return arguments_of(settings)

    def _sit(
        self,
        provider: Provider,
        folder: Path,
        number: int,
        disturbances: Sequence[Disturbance | None],
        budget: float | None = None,
    ) -> list[int]:
        """Give the same commands once more; give their exit codes."""
        self._outcome.sittings += 1
        budget = self._plan.budget if budget is None else budget
        children = [
            Child(self._arguments(provider, run, budget), folder, f"run-{run}-{number}")
            for run in range(len(disturbances))
        ]
        left = {child.key: wanted for child, wanted in zip(children, disturbances, strict=True) if wanted is not None}
        due: dict[str, float] = {}
        while running := [child for child in children if child.is_running()]:
            for child in running:
                wanted = left.get(child.key)
                if wanted is None:
                    continue
                if child.key not in due and child.started and provider.arrived[child.key] >= wanted.requests:
                    due[child.key] = child.seconds + wanted.delay
                if child.seconds >= due.get(child.key, float("inf")):
                    child.send(wanted.signal)
                    self._signals[child.key] = (wanted.signal, time.time())
                    del left[child.key]
            time.sleep(0.004)
        return [self._judged(child.key, child.ended()) for child in children]

    def _judged(self, key: str, ended: Ended) -> int:
        outcome = self._outcome
        sent = self._signals.get(key, (None, 0.0))[0]
        outcome.kills += sent == signal.SIGKILL
        outcome.sigterms += sent == signal.SIGTERM
        outcome.sigints += sent == signal.SIGINT
        tail = ended.stderr.strip()[-300:]
        if ended.stopped:
            outcome.hangs += 1
            self._fail(f"{key} {ended.stopped}: {tail}")
        elif "Traceback" in ended.stderr:
            outcome.tracebacks += 1
            self._fail(f"{key} ends with a traceback{f' after {sent.name}' if sent else ''}: {tail}")
        elif ended.code == 1 and sent is None and "Error: " not in ended.stderr:
            self._fail(f"{key} ends with exit code 1 and no sentence: {tail}")
        elif ended.code not in ((0, 1) if sent is None else (0, 1, 128 + sent, -sent)) and ended.code != 130:
            self._fail(f"{key} ends with exit code {ended.code}: {tail}")
        return ended.code

    # --- by the provider's book ---------------------------------------------------------------------------------------

    def _check_cap(self, budget: float | None) -> None:
        billed: Counter[str] = Counter()
        for call in read_book(self._book):
            billed[call.who.rpartition("-")[0]] += call.usd  # type: ignore[assignment]
        self._outcome.billed_usd = sum(billed.values())
        for run, usd in sorted(billed.items()):
            if budget is not None and usd > budget + 1e-9:
                self._outcome.over_the_cap_usd = max(self._outcome.over_the_cap_usd, usd - budget)
                self._fail(f"{run} was billed ${usd:.4f}, above its budget of ${budget:.4f}")

    def _check_replies(self, book: Sequence[Served], calls: Path) -> None:
        stored = _stored(calls)
        by_prompt: dict[int, list[Served]] = {}
        for call in book:
            by_prompt.setdefault(call.prompt, []).append(call)
        lost: Counter[str] = Counter()
        for call in book:
            missing = sum(serial not in stored for serial in call.replies)
            if call.fault not in DELIVERED or not missing:
                continue
            sent, at = self._signals.get(call.who, (None, 0.0))
            if sent == signal.SIGKILL and (call.delivered is None or call.delivered > at - UNWRITTEN):
                self._outcome.cut_by_kill += missing
            elif self._gave_up(call):
                continue
            elif self._is_double(call, by_prompt[call.prompt], stored):
                self._outcome.twice += missing
            else:
                self._outcome.lost += missing
                why = f"of a process that got {sent.name}" if sent else "of a process that was left alone"
                lost[f"{why}, {'delivered' if call.delivered else 'billed and not waited for'}"] += missing
        for why, n in lost.items():
            self._fail(f"{n} replies are lost: {why}")
        if self._outcome.twice:
            self._fail(f"{self._outcome.twice} replies were paid for by two processes")

    def _gave_up(self, call: Served) -> bool:
        """Say whether the client may have given up waiting, as it was asked to."""
        timeout = self._plan.timeout
        return timeout is not None and (call.delivered or float("inf")) - call.began > timeout - 2.0

    def _is_double(self, call: Served, same: Sequence[Served], stored: set[int]) -> bool:
        until = (call.delivered or call.began) + 0.5
        return any(
            other.who != call.who and other.began <= until and stored.intersection(other.replies) for other in same
        )

    def _check_samples(self, folder: Path, quiet: Path) -> None:
        wanted = _samples(quiet / "runs" / "run-0" / "run.db")
        for run in range(self._plan.processes):
            found = _samples(folder / "runs" / f"run-{run}" / "run.db")
            names = {id for id in wanted | found if wanted.get(id) != found.get(id)}
            if names:
                self._outcome.different += len(names)
                shown = ", ".join(f"{id}: {found.get(id)} for {wanted.get(id)}" for id in sorted(names)[:2])
                self._fail(f"run-{run}: {len(names)} samples differ from an undisturbed run: {shown}"[:600])


def _stored(calls: Path) -> set[int]:
    with closing(sqlite3.connect(calls)) as database:
        return {serial for (text,) in database.execute("SELECT text FROM replies") for serial in serials_in(text)}


def _samples(path: Path) -> Mapping[str, tuple[str | None, ...]]:
    sql = (
        "SELECT samples.id, input, label, COALESCE(samples.dropped, verdicts.dropped), passed FROM samples "
        "LEFT JOIN verdicts ON verdicts.sample = samples.id LEFT JOIN scores ON scores.sample = samples.id"
    )
    if not path.is_file():
        return {}
    with closing(sqlite3.connect(path)) as database:
        return {id: tuple(rest) for id, *rest in database.execute(sql)}


def sentence_of(stderr: str) -> str:
    """Give the sentence that a command ended with; empty where there is none."""
    found = re.findall(r"^Error: (.+)", stderr, re.MULTILINE)
    return found[-1] if found else ""
