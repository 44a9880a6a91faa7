"""Hooks that do not return are ended; those that are only slow are left alone."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsrl import Solved, hookimpl
from dsrl.errors import PluginError
from dsrl.pipeline import hook_watch
from dsrl.pipeline.hook_watch import CALL_FILE, end_process_by, watch_hooks
from dsrl.plugins.hook_calls import WATCHED, list_calls
from dsrl.testing.small_task import SmallTask

#: It takes more than half a minute to find out that this expression does not match.
EVIL, EVIL_TEXT = re.compile("(a+)+b"), "a" * 31


class Odd(SmallTask):
    """A task whose hooks do what a test asks for."""

    def __init__(self, work: Callable[[str], Any]) -> None:
        super().__init__()
        self.work = work

    @hookimpl
    def process_prediction(self, output: str) -> str:
        self.work(output)
        return "yes"

    @hookimpl
    def process_label(self, output: str) -> str:
        self.work(output)
        return "yes"

    @hookimpl
    def eval(self, prediction: str) -> bool:
        self.work(prediction)
        return True

    @hookimpl
    def procedural_solve(self, input: str) -> Solved:
        self.work(input)
        return Solved("yes", 1)


class OddReward(Odd):
    """A task that also has a reward of its own."""

    @hookimpl
    def reward(self, output: str) -> float:
        self.work(output)
        return 1.0


def loop(text: str) -> None:
    while True:
        pass


def loop_and_catch(text: str) -> None:
    while True:
        with suppress(Exception):
            time.sleep(0.001)


def match(text: str) -> None:
    EVIL.match(EVIL_TEXT)


def wait(text: str) -> None:
    time.sleep(60)


@contextmanager
def watched(limit: float = 0.3, folder: Path = Path("missing")) -> Iterator[list[str]]:
    told: list[str] = []
    began = time.monotonic()
    with watch_hooks(limit, folder, told.append):
        yield told
    assert time.monotonic() - began < 20, "it was not stopped"
    assert list_calls() == []


def reward(task: Any, text: str = "x") -> float:
    return float(task.hook.reward(output=text, label="yes"))


@pytest.mark.parametrize("work", [loop, loop_and_catch, match, wait])
def test_a_hook_that_does_not_return_is_stopped(bound: Any, work: Callable[[str], None]) -> None:
    task = bound("task", OddReward(work))
    with watched() as told:
        with pytest.raises(
            PluginError, match=r"its hook reward has not returned for 0\.3 s \(test_hook_watch\.py:\d+\)"
        ):
            reward(task)
        assert told == []
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


ARGUMENTS = {
    "process_label": {"output": "the text"},
    "process_prediction": {"output": "the text"},
    "eval": {"prediction": "the text", "label": "yes"},
    "reward": {"output": "the text", "label": "yes"},
    "procedural_solve": {"input": "the text"},
}


@pytest.mark.parametrize("hook", sorted(WATCHED))
def test_every_hook_that_reads_a_text_is_watched(bound: Any, hook: str) -> None:
    task = bound("task", OddReward(loop))
    with watched(), pytest.raises(PluginError, match=f"its hook {hook} has not returned .* begins with 'the text'"):
        getattr(task.hook, hook)(**ARGUMENTS[hook])


def test_the_sentence_names_the_text_its_file_and_what_to_do(bound: Any, tmp_path: Path) -> None:
    task = bound("task", OddReward(loop))
    text = "a\x1b" * 600_000
    with watched(folder=tmp_path), pytest.raises(PluginError) as caught:
        reward(task, text)
    words = str(caught.value)
    assert words.startswith("task 'task0' ")
    assert f"begins with {text[:100] + '...'!r} (all of it is in {tmp_path / CALL_FILE})" in words
    assert words.endswith("or give --hook-timeout more seconds; the same command then continues the run")
    call = json.loads((tmp_path / CALL_FILE).read_text())
    assert call["hook"] == "reward"
    assert call["arguments"] == {"output": text[:1_000_000], "label": "yes"}


def test_a_default_hook_is_stopped_where_the_task_is_at_work(bound: Any) -> None:
    task = bound("task", Odd(loop))
    with watched(), pytest.raises(PluginError, match=r"its hook reward has not returned .*\(test_hook_watch\.py:\d+\)"):
        reward(task)


def test_a_slow_hook_that_returns_is_left_alone(bound: Any) -> None:
    task = bound("task", OddReward(lambda text: time.sleep(0.2)))
    with watched(limit=0.5) as told:
        assert [reward(task) for _ in range(5)] == [1.0] * 5, "together they take longer than one may"
        assert told == []


def test_a_limit_of_0_watches_nothing(bound: Any) -> None:
    with watched(limit=0):
        assert "dsrl-hook-watch" not in {thread.name for thread in threading.enumerate()}


def test_only_the_thread_that_hangs_is_stopped(bound: Any) -> None:
    good, bad = bound("task", OddReward(lambda text: None)), bound("task", OddReward(loop))
    is_over = threading.Event()

    def work() -> int:
        count = 0
        while not is_over.is_set():
            assert reward(good) == 1.0
            count += 1
        return count

    with watched(), ThreadPoolExecutor() as pool:
        counts = [pool.submit(work) for _ in range(2)]
        hanging = [pool.submit(reward, bad, f"text {number}") for number in range(2)]
        sentences = [str(future.exception(20)) for future in hanging]
        is_over.set()
        assert min(count.result(20) for count in counts) > 10
    assert ["'text 0'" in sentences[0], "'text 1'" in sentences[1]] == [True, True]


class Stubborn:
    """The work of a hook that cannot be stopped, until the test ends it."""

    def __init__(self) -> None:
        self.is_over = False

    def __call__(self, text: str) -> None:
        while not self.is_over:
            with suppress(BaseException):
                time.sleep(0.01)


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Stubborn:
    monkeypatch.setattr(hook_watch, "GRACE", 0.2)
    monkeypatch.setattr(hook_watch, "_SECONDS_BETWEEN_WARNINGS", 0.2)
    return Stubborn()


def test_a_program_is_told_again_and_again_of_a_hook_that_cannot_be_stopped(bound: Any, stubborn: Stubborn) -> None:
    task = bound("task", OddReward(stubborn))
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        stubborn.is_over = len(told) == 3

    with watch_hooks(0.2, Path("missing"), tell), pytest.raises(PluginError, match="its hook reward has not returned"):
        reward(task)
    assert len(told) == 3
    assert all("cannot be stopped and is still at work" in text for text in told)


def test_the_command_line_ends_the_process(bound: Any, stubborn: Stubborn) -> None:
    task = bound("task", OddReward(stubborn))
    ended: list[str] = []

    def end(sentence: str) -> None:
        ended.append(sentence)
        stubborn.is_over = True

    with watched(), end_process_by(end), pytest.raises(PluginError) as caught:
        reward(task)
    assert ended == [str(caught.value)]


def test_the_time_in_which_the_process_was_suspended_does_not_count(
    bound: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(hook_watch, "time", clock)
    watch = hook_watch._Watch(120.0, tmp_path, print)

    def suspend(text: str) -> None:
        for seconds in (1.0, 3600.0, 1.0):
            clock.now += seconds
            watch._look()

    assert reward(bound("task", OddReward(suspend))) == 1.0
    assert not (tmp_path / CALL_FILE).exists()
