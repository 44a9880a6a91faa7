"""What a run shows on stderr while it works: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from dsrl.pipeline.budget import describe_spending
from dsrl.storage.run_log import NOTES
from dsrl.teaching.reply_store import Spending
from dsrl.text import printable
from dsrl.types import DEV_ACCURACY, TrainStep

if TYPE_CHECKING:
    from rich.progress import TaskID


class Progress(Protocol):
    """What a run reports while it works. ``total`` and ``done`` count the samples, steps or test items of a stage."""

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        """Show that a stage starts, or that it continues and ``done`` of it is already there."""

    def advance(self, stage: str, by: int = 1) -> None:
        """Show that more of a stage is done."""

    def finish(self, stage: str, outcome: str = "") -> None:
        """Show that a stage has ended; ``outcome`` is its result in a few words."""

    def note(self, text: str) -> None:
        """Show something that the user should know."""

    def train_step(self, step: TrainStep) -> None:
        """Show the metrics of a training step."""

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        """Show from now on what the teacher calls have cost. ``spending`` is called whenever the display is updated."""


_notes = logging.getLogger(NOTES)


class _StepText:
    """Describes the training in a few words: the reward of the last step, and the accuracy of the last evaluation."""

    def __init__(self) -> None:
        self._accuracy = ""

    def describe(self, step: TrainStep) -> str:
        """Return the text after a step."""
        accuracy = step.metrics.get(DEV_ACCURACY)
        if accuracy is not None:
            self._accuracy = f", accuracy {accuracy:.1%} on development items"
        name = "reward" if "reward" in step.metrics else "loss"
        return f"{name} {step.metrics.get(name, float('nan')):.3f}{self._accuracy}"


class SilentProgress:
    """Show nothing; log the notes."""

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        pass

    def advance(self, stage: str, by: int = 1) -> None:
        pass

    def finish(self, stage: str, outcome: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        _notes.info("%s", text)

    def train_step(self, step: TrainStep) -> None:
        pass

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        pass


class LineProgress(SilentProgress):
    """Show a line when a stage ends and every few seconds in between; for logs and pipes."""

    #: Seconds between two lines.
    every = 10.0

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int | None, float]] = {}
        self._last = time.monotonic()
        self._reward = ""
        self._step_text = _StepText()
        self._describe_money: Callable[[], str] = str

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        self._counts[stage] = (done, total, time.monotonic())

    def advance(self, stage: str, by: int = 1) -> None:
        done, total, started = self._counts[stage]
        self._counts[stage] = (done + by, total, started)
        if time.monotonic() - self._last >= self.every:
            counts = [_format_count(name, *self._counts[name][:2]) for name in self._counts]
            money = self._describe_money()
            self._print("  ".join([*counts, money] if money else counts) + self._reward)

    def finish(self, stage: str, outcome: str = "") -> None:
        done, total, started = self._counts.pop(stage, (0, None, time.monotonic()))
        seconds = f"{time.monotonic() - started:.1f} s"
        self._print(f"{_format_count(stage, done, total)}{': ' + outcome if outcome else ''} ({seconds})")

    def note(self, text: str) -> None:
        _notes.info("%s", text)
        self._print(f"note: {text}")

    def train_step(self, step: TrainStep) -> None:
        self._reward = f"  {self._step_text.describe(step)}"

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        self._describe_money = lambda: describe_spending(spending(), budget)

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        print(printable(text), file=sys.stderr, flush=True)


class LiveProgress:
    """Show bars with counts, rates and the time left, and below them the cost of the teacher; notes scroll above."""

    def __init__(self) -> None:
        from rich.console import Console, Group, RenderableType
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.table import Column
        from rich.text import Text

        live = self

        class BarsWithCost(Bars):
            def get_renderable(self) -> RenderableType:
                money = live.describe_money()
                return Group(super().get_renderable(), Text(f"teacher: {money}")) if money else super().get_renderable()

        self.describe_money: Callable[[], str] = str
        self._step_text = _StepText()
        self._bars = BarsWithCost(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.fields[stage]}", style="bold"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", style="dim"),
            TimeRemainingColumn(elapsed_when_finished=True),
            # The outcome takes the rest of the line. It may be a model's text, so it must not be read as markup.
            TextColumn("{task.fields[outcome]}", style="dim", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=Console(stderr=True),
            transient=False,
            expand=True,
        )
        self._ids: dict[str, TaskID] = {}
        self._started: dict[str, tuple[float, int]] = {}

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        self._started[stage] = (time.monotonic(), done)
        self._ids[stage] = self._bars.add_task(stage, total=total, completed=done, stage=stage, rate="", outcome="")

    def advance(self, stage: str, by: int = 1) -> None:
        self._bars.advance(self._ids[stage], by)
        started, done_before = self._started[stage]
        done = self._bars.tasks[self._index(stage)].completed - done_before
        elapsed = time.monotonic() - started
        self._bars.update(self._ids[stage], rate=f"{done / elapsed:.1f}/s" if elapsed > 0.5 else "")

    def finish(self, stage: str, outcome: str = "") -> None:
        if stage not in self._ids:
            self.start(stage, 1, 1)
        task = self._bars.tasks[self._index(stage)]
        total = task.completed or 1
        self._bars.update(self._ids[stage], total=total, completed=total, outcome=printable(outcome))

    def note(self, text: str) -> None:
        from rich.text import Text

        _notes.info("%s", text)
        self._bars.console.print(Text.assemble(("note: ", "yellow"), printable(text)))

    def train_step(self, step: TrainStep) -> None:
        if "trained" in self._ids:
            self._bars.update(self._ids["trained"], outcome=self._step_text.describe(step))

    def watch(self, spending: Callable[[], Spending], budget: float | None) -> None:
        self.describe_money = lambda: describe_spending(spending(), budget)

    def _index(self, stage: str) -> int:
        return self._bars.task_ids.index(self._ids[stage])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the display for the length of a block."""
        with self._bars:
            yield


@contextmanager
def progress_on_stderr(quiet: bool = False) -> Iterator[Progress]:
    """Open the display that suits stderr; it shows nothing if ``quiet``."""
    if quiet:
        yield SilentProgress()
    elif sys.stderr.isatty():
        live = LiveProgress()
        with live.shown():
            yield live
    else:
        yield LineProgress()


def _format_count(stage: str, done: int, total: int | None) -> str:
    return f"{stage} {done}/{total}" if total else f"{stage} {done}" if done else stage
