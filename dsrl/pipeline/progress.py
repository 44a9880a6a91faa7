"""What a run shows while it works, on stderr: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from dsrl.storage.run_log import NOTES
from dsrl.teaching.pricing import dollars
from dsrl.teaching.reply_store import Spending
from dsrl.text import printable
from dsrl.types import TrainStep

if TYPE_CHECKING:
    from rich.progress import TaskID


class Progress(Protocol):
    """What the road tells. ``total`` and ``done`` are samples, steps or test items, as the stage has it."""

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        """A stage begins, or goes on with ``done`` already there."""

    def advance(self, stage: str, by: int = 1) -> None:
        """Some more of a stage is done."""

    def finish(self, stage: str, said: str = "") -> None:
        """A stage is over; ``said`` is its outcome in a few words."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def train_step(self, step: TrainStep) -> None:
        """A training step is done."""

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        """Show from now on what the teacher calls have cost, of a budget where there is one; asked whenever it is shown."""


_notes = logging.getLogger(NOTES)


class SilentProgress:
    """Shows nothing; notes are logged."""

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        pass

    def advance(self, stage: str, by: int = 1) -> None:
        pass

    def finish(self, stage: str, said: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        _notes.info("%s", text)

    def train_step(self, step: TrainStep) -> None:
        pass

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        pass


class LineProgress(SilentProgress):
    """A line when a stage ends, and one every few seconds in between; for logs and pipes."""

    every = 10.0  # seconds

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int | None, float]] = {}
        self._last = time.monotonic()
        self._reward = ""
        self._money: Callable[[], str] = str

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        self._counts[stage] = (done, total, time.monotonic())

    def advance(self, stage: str, by: int = 1) -> None:
        done, total, started = self._counts[stage]
        self._counts[stage] = (done + by, total, started)
        if time.monotonic() - self._last >= self.every:
            counts = [_count(name, *self._counts[name][:2]) for name in self._counts]
            money = [told] if (told := self._money()) else []
            self._say("  ".join([*counts, *money]) + self._reward)

    def finish(self, stage: str, said: str = "") -> None:
        done, total, started = self._counts.pop(stage, (0, None, time.monotonic()))
        seconds = f"{time.monotonic() - started:.1f} s"
        self._say(f"{_count(stage, done, total)}{': ' + said if said else ''} ({seconds})")

    def note(self, text: str) -> None:
        _notes.info("%s", text)
        self._say(f"note: {text}")

    def train_step(self, step: TrainStep) -> None:
        self._reward = f"  reward {step.metrics.get('reward', float('nan')):.3f}"

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        self._money = lambda: spent(spending(), budget)

    def _say(self, text: str) -> None:
        self._last = time.monotonic()
        print(printable(text), file=sys.stderr, flush=True)


class LiveProgress:
    """Bars with counts, rates and the time left, below them what the teacher has cost; notes scroll above."""

    def __init__(self) -> None:
        from rich.console import Console, Group, RenderableType
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.table import Column
        from rich.text import Text

        live = self

        class BarsAndMoney(Bars):
            def get_renderable(self) -> RenderableType:
                money = live.money()
                return Group(super().get_renderable(), Text(f"teacher: {money}")) if money else super().get_renderable()

        self.money: Callable[[], str] = str
        self._bars = BarsAndMoney(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.fields[stage]}", style="bold"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", style="dim"),
            TimeRemainingColumn(elapsed_when_finished=True),
            # What is said takes what the counts leave of the line; it may be a model's words, so it is no markup.
            TextColumn("{task.fields[said]}", style="dim", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=Console(stderr=True),
            transient=False,
            expand=True,
        )
        self._ids: dict[str, TaskID] = {}
        self._started: dict[str, tuple[float, int]] = {}

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        self._started[stage] = (time.monotonic(), done)
        self._ids[stage] = self._bars.add_task(stage, total=total, completed=done, stage=stage, rate="", said="")

    def advance(self, stage: str, by: int = 1) -> None:
        self._bars.advance(self._ids[stage], by)
        started, before = self._started[stage]
        done = self._bars.tasks[self._index(stage)].completed - before
        elapsed = time.monotonic() - started
        self._bars.update(self._ids[stage], rate=f"{done / elapsed:.1f}/s" if elapsed > 0.5 else "")

    def finish(self, stage: str, said: str = "") -> None:
        if stage not in self._ids:
            self.start(stage, 1, 1)
        task = self._bars.tasks[self._index(stage)]
        total = task.completed or 1
        self._bars.update(self._ids[stage], total=total, completed=total, said=printable(said))

    def note(self, text: str) -> None:
        from rich.text import Text

        _notes.info("%s", text)
        self._bars.console.print(Text.assemble(("note: ", "yellow"), printable(text)))

    def train_step(self, step: TrainStep) -> None:
        if "trained" in self._ids:
            self._bars.update(self._ids["trained"], said=f"reward {step.metrics.get('reward', float('nan')):.3f}")

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        self.money = lambda: spent(spending(), budget)

    def _index(self, stage: str) -> int:
        return self._bars.task_ids.index(self._ids[stage])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the display for as long as this lasts."""
        with self._bars:
            yield


@contextmanager
def progress_on_stderr(quiet: bool = False) -> Iterator[Progress]:
    """Give the display that fits stderr; none where the user wants it quiet."""
    if quiet:
        yield SilentProgress()
    elif sys.stderr.isatty():
        live = LiveProgress()
        with live.shown():
            yield live
    else:
        yield LineProgress()


def spent(spending: Spending, budget: float | None) -> str:
    """Say what a run's calls have cost; nothing where they cost nothing."""
    if spending.priced and not spending.cost_usd:
        return ""
    parts = ["1 call" if spending.calls == 1 else f"{spending.calls} calls"]
    if spending.cost_usd:
        parts.append(dollars(spending.cost_usd) + (f" of {dollars(budget)}" if budget is not None else ""))
    if spending.unpriced:
        parts.append("and calls of unknown price" if spending.cost_usd else "price unknown")
    if spending.unknown_bills:
        parts.append(unknown_bills(spending.unknown_bills))
    return ", ".join(parts)


def unknown_bills(calls: int) -> str:
    """Say that the provider did not tell what it billed."""
    return f"bill of {calls} call{'' if calls == 1 else 's'} not known"


def _count(stage: str, done: int, total: int | None) -> str:
    return f"{stage} {done}/{total}" if total else f"{stage} {done}" if done else stage
