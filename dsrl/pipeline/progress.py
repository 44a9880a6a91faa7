"""What a run shows on stderr while it works: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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

    def start_iteration(self, number: int, count: int) -> None:
        """Show that one of several iterations starts; the stages that start now belong to it."""

    def set_status(self, text: str) -> None:
        """Show what the run is waiting for, for example for a model that is being loaded; an empty text ends it."""


_notes = logging.getLogger(NOTES)
#: The characters of a small curve, and how many of them are shown.
_CURVE, _CURVE_WIDTH = "▁▂▃▄▅▆▇█", 16


class _StepText:
    """Describes the training in a few words: the reward of the last step, and the accuracy of the last evaluation.

    Args:
        curve_width: the characters of a small curve of the reward (or the loss); 0 for none.
    """

    def __init__(self, curve_width: int = 0) -> None:
        self._accuracy = ""
        self._values: deque[float] = deque(maxlen=max(curve_width, 1))
        self._has_curve = curve_width > 0

    def describe(self, step: TrainStep) -> str:
        """Return the text after a step."""
        accuracy = step.metrics.get(DEV_ACCURACY)
        if accuracy is not None:
            self._accuracy = f", accuracy {accuracy:.1%} on development items"
        name = "reward" if "reward" in step.metrics else "loss"
        value = step.metrics.get(name, math.nan)
        self._values.append(value)
        curve = f"{draw_curve(self._values)} " if self._has_curve and len(self._values) > 1 else ""
        return f"{name} {curve}{value:.3f}{self._accuracy}"


def draw_curve(values: Iterable[float]) -> str:
    """Return one character for each value, from the lowest to the highest of them; a blank for NaN."""
    values = list(values)
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return " " * len(values)
    low, span = min(known), max(known) - min(known)
    places = [round((v - low) / span * (len(_CURVE) - 1)) if span else 0 for v in known]
    marks = iter(_CURVE[place] for place in places)
    return "".join(next(marks) if math.isfinite(value) else " " for value in values)


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

    def start_iteration(self, number: int, count: int) -> None:
        pass

    def set_status(self, text: str) -> None:
        pass


class LineProgress(SilentProgress):
    """Show a line when a stage ends and every few seconds in between; for logs and pipes."""

    #: Seconds between two lines while a stage advances.
    every = 10.0
    #: Seconds without a line after which one says that the run is still at work.
    patience = 30.0

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int | None, float]] = {}
        self._last = self._last_news = time.monotonic()
        self._reward = self._status = ""
        self._step_text = _StepText()
        self._describe_money: Callable[[], str] = str
        self._end = threading.Event()
        self._lock = threading.RLock()  # the counts are also read by the thread that beats

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        with self._lock:
            self._counts[stage] = (done, total, time.monotonic())

    def advance(self, stage: str, by: int = 1) -> None:
        with self._lock:
            done, total, started = self._counts[stage]
            self._counts[stage] = (done + by, total, started)
            self._last_news = time.monotonic()
        if time.monotonic() - self._last >= self.every:
            self._print(self._describe())

    def finish(self, stage: str, outcome: str = "") -> None:
        with self._lock:
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

    def start_iteration(self, number: int, count: int) -> None:
        self._print(f"iteration {number} of {count}")

    def set_status(self, text: str) -> None:
        self._status = text

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Write a line for the length of a block whenever nothing was written for a while."""
        thread = threading.Thread(target=self._beat, name="dsrl-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _beat(self) -> None:
        while not self._end.wait(max(self.patience - (time.monotonic() - self._last), 0.05)):
            now = time.monotonic()
            if now - self._last >= self.patience:
                with self._lock:
                    self._print(f"{self._describe()}  still at work: no news for {now - self._last_news:.0f} s")

    def _describe(self) -> str:
        with self._lock:
            parts = [_format_count(name, *self._counts[name][:2]) for name in self._counts]
        return "  ".join(filter(None, [*parts, self._describe_money(), self._status])) + self._reward

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        print(printable(text.strip()), file=sys.stderr, flush=True)


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
                below = [f"teacher: {money}"] if money else []
                below += [live.status] if live.status else []
                return Group(super().get_renderable(), *map(Text, below)) if below else super().get_renderable()

        self.describe_money: Callable[[], str] = str
        self.status = ""
        self._iteration = ""
        self._step_text = _StepText(_CURVE_WIDTH)
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
        title = stage + self._iteration
        self._ids[stage] = self._bars.add_task(title, total=total, completed=done, stage=title, rate="", outcome="")

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

    def start_iteration(self, number: int, count: int) -> None:
        self._iteration = f" ({number} of {count})"
        self._ids.clear()

    def set_status(self, text: str) -> None:
        self.status = printable(text)

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
        lines = LineProgress()
        with lines.beating():
            yield lines


def _format_count(stage: str, done: int, total: int | None) -> str:
    return f"{stage} {done}/{total}" if total else f"{stage} {done}" if done else stage
