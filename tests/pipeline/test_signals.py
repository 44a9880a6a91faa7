from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from dsrl.pipeline import signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_a_coroutine_end_and_then_stops_the_command(signum: signal.Signals) -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        asyncio.get_running_loop().call_later(0.05, signal.raise_signal, signum)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended = True

    before = signal.getsignal(signum)
    with signals.handle_signals(), pytest.raises(signals.Interrupted) as caught:
        signals.run(work())
    assert ended
    assert signals.exit_code(caught.value) == 128 + signum
    assert signal.getsignal(signum) is before


def test_a_second_signal_does_not_wait() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, signal.raise_signal, signal.SIGINT)
        loop.call_later(0.1, signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(30)

    began = time.monotonic()
    with signals.handle_signals(), pytest.raises(signals.Interrupted) as caught:
        signals.run(work())
    assert caught.value.signum == signal.SIGTERM
    assert time.monotonic() - began < 20


def test_a_signal_between_coroutines_stops_at_once() -> None:
    with signals.handle_signals(), pytest.raises(signals.Interrupted):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_comes_as_a_coroutine_ends_is_not_lost() -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)

    with signals.handle_signals(), pytest.raises(signals.Interrupted):
        signals.run(work())


def test_what_is_ignored_stays_ignored_and_the_others_work() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:

        async def work() -> str:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.01)
            return "done"

        async def stopped() -> None:
            asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)
            await asyncio.sleep(60)

        with signals.handle_signals():
            assert signals.run(work()) == "done"
            with pytest.raises(signals.Interrupted):
                signals.run(stopped())
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_forked_worker_dies_of_a_signal_as_usual() -> None:
    running, ready = os.pipe()
    with signals.handle_signals():
        worker = os.fork()
        if not worker:
            os.write(ready, b"x")
            time.sleep(60)
            os._exit(0)
        os.read(running, 1)
        os.kill(worker, signal.SIGTERM)
        _, status = os.waitpid(worker, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_a_signal_inside_a_finalizer_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    """Python drops what a finalizer raises."""

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    async def work() -> None:
        Finalized()
        await asyncio.sleep(10)

    def drop_and_wait() -> None:
        Finalized()
        time.sleep(10)

    with signals.handle_signals(), pytest.raises(signals.Interrupted):
        drop_and_wait()
    with signals.handle_signals(), pytest.raises(signals.Interrupted):
        signals.run(work())
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_function_that_works_in_a_thread(signum: signal.Signals) -> None:
    """A function that runs no coroutine at that moment, beside an event loop that is already running."""
    ended = False

    def work() -> None:
        nonlocal ended
        threading.Timer(0.1, os.kill, (os.getpid(), signum)).start()
        try:
            while True:
                time.sleep(0.01)
        finally:
            ended = True

    async def run_cell() -> None:
        signals.call(work)

    before = signal.getsignal(signum)
    with pytest.raises(signals.Interrupted) as caught:
        asyncio.run(run_cell())
    assert caught.value.signum == signum
    assert ended
    assert signal.getsignal(signum) is before


def test_a_signal_lets_a_coroutine_in_a_thread_end() -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            ended = True

    async def run_cell() -> None:
        signals.call(lambda: signals.run(work()))

    with pytest.raises(signals.Interrupted):
        asyncio.run(run_cell())
    assert ended


def test_a_call_returns_what_its_function_returns_and_raises_what_it_raises() -> None:
    async def run_cell() -> tuple[int, bool]:
        number = signals.call(lambda: 7)
        with pytest.raises(KeyError):
            signals.call(lambda: {}["gone"])
        return number, signals.call(threading.current_thread) is threading.main_thread()

    assert asyncio.run(run_cell()) == (7, False)
    assert signals.call(threading.current_thread) is threading.current_thread()
