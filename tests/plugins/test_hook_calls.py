"""Calls under way are shown for each thread, and one of them can be stopped."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest

from dsrl import hookimpl
from dsrl.errors import PluginError
from dsrl.plugins import hook_calls
from dsrl.plugins.hook_calls import Call, HookStopped, list_calls, stop
from dsrl.testing.small_task import SmallTask


def own_calls() -> list[Call]:
    return [call for thread, call in list_calls() if thread == threading.get_ident()]


class Nested(SmallTask):
    """A task whose reward calls another hook as a stranger would, and does not care for its errors."""

    task: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[str]] = []
        self.inner: Any = lambda: None

    @hookimpl
    def reward(self, output: str, label: str) -> float:
        try:
            return float(self.task.hook.eval(prediction=output, label=label))
        except Exception:  # noqa: BLE001 - what a stranger may write
            return 0.5

    @hookimpl
    def eval(self, prediction: str) -> bool:
        self.seen.append([call[0].hook.name for call in own_calls()])
        self.inner()
        return True


@pytest.fixture
def nested(bound: Any) -> Nested:
    task = Nested()
    task.task = bound("task", task)
    return task


def test_calls_are_shown_while_they_are_under_way(nested: Nested) -> None:
    assert nested.task.hook.reward(output="yes", label="yes") == 1.0
    assert nested.seen == [["eval", "reward"]], "the innermost first"
    assert own_calls() == []
    nested.inner = lambda: 1 / 0
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        nested.task.hook.eval(prediction="yes", label="yes")
    assert own_calls() == []


def test_a_stopped_call_ends_with_the_sentence_through_a_hook_that_catches_errors(nested: Nested) -> None:
    def loop() -> None:
        call = own_calls()[0]
        threading.Timer(0.05, stop, (threading.get_ident(), call, "it took too long")).start()
        while True:
            pass

    nested.inner = loop
    with pytest.raises(PluginError, match=r"^it took too long$"):
        nested.task.hook.reward(output="yes", label="yes")
    nested.inner = lambda: None
    assert nested.task.hook.reward(output="yes", label="yes") == 1.0, "the next call is not affected"


def test_a_hook_that_returns_although_it_was_stopped_has_no_result(nested: Nested) -> None:
    def swallow() -> None:
        threading.Timer(0.05, stop, (threading.get_ident(), own_calls()[0], "it took too long")).start()
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - what a stranger may write
            pass

    nested.inner = swallow
    with pytest.raises(PluginError, match="it took too long"):
        nested.task.hook.reward(output="yes", label="yes")


def test_a_call_that_has_ended_is_not_stopped(nested: Nested) -> None:
    calls: list[Call] = []
    nested.inner = lambda: calls.extend(own_calls())
    nested.task.hook.eval(prediction="yes", label="yes")
    thread = threading.get_ident()
    stopper = threading.Thread(target=stop, args=(thread, calls[0], "it took too long"))
    stopper.start()
    stopper.join()
    time.sleep(0.01)
    nested.inner = lambda: None
    assert nested.task.hook.eval(prediction="yes", label="yes") is True


def test_stops_at_the_very_end_of_calls_are_errors_of_the_call_or_nothing(nested: Nested) -> None:
    """Calls end while another thread tells them to stop: the exception must never arrive outside of the call."""
    thread, done, outcomes = threading.get_ident(), threading.Event(), set()
    nested.inner = lambda: None

    def stop_again_and_again() -> None:
        while not done.is_set():
            for number, call in list_calls():
                if number == thread:
                    stop(number, call, "it took too long")

    # Finalizers of garbage that other tests left must not run within these calls: a stop would end them, unseen by the call.
    gc.collect()
    gc.disable()
    stopper = threading.Thread(target=stop_again_and_again)
    stopper.start()
    try:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            try:
                outcomes.add(nested.task.hook.eval(prediction="yes", label="yes"))
            except PluginError as error:
                outcomes.add(str(error))
    finally:
        done.set()
        stopper.join()
        gc.enable()
    assert outcomes <= {True, "it took too long"}
    assert "it took too long" in outcomes
    assert own_calls() == []
    assert hook_calls._stops == {}


def test_no_usual_except_clause_catches_a_stop() -> None:
    assert not issubclass(HookStopped, Exception)
