from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import worker_functions

from dsrl.errors import PluginError, SettingsError
from dsrl.worker import Worker, WorkerError, end_children


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_for_end(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def get_reason(worker: Worker[..., Any], *args: object) -> str:
    with pytest.raises(WorkerError) as caught:
        worker.call(*args)
    return caught.value.reason


@pytest.fixture(scope="module")
def echo() -> Worker[..., Any]:
    return Worker(worker_functions.echo, seconds=5)


def test_it_returns_what_the_function_returns() -> None:
    worker = Worker(worker_functions.add, seconds=5)
    assert worker.call(3, b=4) == 7
    assert worker.call(3) == 3


def test_one_child_answers_all_calls() -> None:
    worker = Worker("worker_functions:get_pid", seconds=5)
    assert len({worker.call() for _ in range(50)}) == 1
    assert worker.call() != os.getpid()


def test_large_values_pass_in_both_directions(echo: Worker[..., Any]) -> None:
    value = "x" * 10_000_000
    assert echo.call(value) == value


def test_thousands_of_calls_take_seconds(echo: Worker[..., Any]) -> None:
    echo.call(0)
    start = time.monotonic()
    assert [echo.call(n) for n in range(2000)] == list(range(2000))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("name", ["loop", "loop_in_c"])
def test_cpu_time_is_limited(name: str) -> None:
    worker = Worker[..., Any](f"worker_functions:{name}", seconds=0.2)
    start = time.monotonic()
    assert get_reason(worker) == "time"
    assert time.monotonic() - start < 10


def test_time_by_the_clock_is_limited() -> None:
    worker = Worker(worker_functions.sleep, seconds=0.05, wall_seconds=0.3)
    assert get_reason(worker, 60) == "time"
    assert worker.call(0) == 0


def test_time_is_limited_while_a_stopped_child_does_not_read() -> None:
    worker = Worker(worker_functions.echo, seconds=1, wall_seconds=0.3)
    worker.call(0)
    os.kill(worker._children[0].process.pid, signal.SIGSTOP)
    assert get_reason(worker, "x" * 10_000_000) == "time"
    assert worker.call(1) == 1


def test_memory_is_limited() -> None:
    worker = Worker(worker_functions.take_memory, seconds=5, memory_mb=200)
    assert worker.call(50) == 50 * 2**20
    assert get_reason(worker, 4000) == "memory"
    assert worker.call(50) == 50 * 2**20


@pytest.mark.parametrize(
    ("name", "args", "reason", "text"),
    [
        ("exit_at_once", (3,), "crash", "exit code 3"),
        ("exit_at_once", (0,), "crash", "exit code 0"),
        ("crash", (), "crash", "SIGSEGV"),
        ("raise_error", ("wrong",), "exception", "ValueError: wrong"),
        ("raise_error", ("x" * 10**6,), "exception", "ValueError: xxx"),
        ("raise_mute", (), "exception", "Mute"),
        ("raise_system_exit", (), "exception", "SystemExit"),
        ("return_lock", (), "exception", "pickle"),
        ("recurse", (), "exception", "RecursionError"),
        ("add", ("a", "b", "c"), "exception", "TypeError"),
    ],
)
def test_a_failure_has_a_reason_and_a_text(name: str, args: tuple[Any, ...], reason: str, text: str) -> None:
    worker = Worker[..., Any](f"worker_functions:{name}", seconds=5)
    for _ in range(2):
        with pytest.raises(WorkerError, match=text) as caught:
            worker.call(*args)
        assert caught.value.reason == reason
        assert f"worker_functions:{name}" in str(caught.value)
        assert len(str(caught.value)) < 1200


def test_the_child_goes_on_after_an_exception() -> None:
    worker = Worker(worker_functions.echo, seconds=5)
    worker.call(0)
    pid = worker._children[0].process.pid
    with pytest.raises(WorkerError):
        worker.call(threading.current_thread, 1)  # type: ignore[call-arg]
    assert worker.call(1) == 1
    assert worker._children[0].process.pid == pid


def test_arguments_that_cannot_be_pickled_do_not_harm_the_child(echo: Worker[..., Any]) -> None:
    with pytest.raises(TypeError):
        echo.call(threading.Lock())
    assert echo.call(1) == 1


def test_what_the_function_prints_is_no_reply(capfd: pytest.CaptureFixture[str]) -> None:
    worker = Worker(worker_functions.write_to_stdout, seconds=5)
    assert [worker.call() for _ in range(3)] == ["fine"] * 3
    assert capfd.readouterr() == ("", "")


def test_a_hundred_threads_share_a_worker(echo: Worker[..., Any]) -> None:
    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(echo.call, range(1000))) == list(range(1000))


def test_a_child_that_was_killed_is_replaced(echo: Worker[..., Any]) -> None:
    for _ in range(3):
        echo.call(0)
        process = echo._children[0].process
        os.kill(process.pid, signal.SIGKILL)
        while process.poll() is None:
            time.sleep(0.01)
        assert echo.call(1) == 1


def test_a_kill_during_a_call_is_a_crash() -> None:
    worker = Worker(worker_functions.sleep, seconds=20)
    worker.call(0)
    threading.Timer(0.2, os.kill, (worker._children[0].process.pid, signal.SIGKILL)).start()
    with pytest.raises(WorkerError, match="SIGKILL") as caught:
        worker.call(60)
    assert caught.value.reason == "crash"


def test_a_forked_copy_starts_its_own_child(echo: Worker[..., Any]) -> None:
    worker = Worker(worker_functions.get_pid, seconds=5)
    mine = worker.call()
    process = os.fork()
    if process == 0:
        os._exit(0 if not worker._children and worker.call() != mine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert worker.call() == mine


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_daemonic_process_can_use_a_worker(method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        child, parent = pool.apply(worker_functions.call_in_worker, ("worker_functions:get_pid",)), os.getpid()
    assert child != parent
    assert wait_for_end(child)


def run_script(body: str, *, wait: bool = True) -> subprocess.Popen[str]:
    script = "import worker_functions, os, sys, time, signal\nfrom dsrl import Worker, WorkerError\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, "-c", script + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    if wait:
        process.wait(60)
    return process


def read_pid(process: subprocess.Popen[str]) -> int:
    assert process.stdout
    assert select.select([process.stdout], [], [], 60)[0]
    return int(process.stdout.readline())


def test_no_child_is_left_when_the_interpreter_ends() -> None:
    process = run_script(
        """
        worker = Worker(worker_functions.get_pid, seconds=5)
        print(worker.call(), flush=True)
        """
    )
    assert process.returncode == 0
    assert wait_for_end(read_pid(process))
    assert process.stderr
    assert process.stderr.read() == ""


@pytest.mark.parametrize("name", ["sleep", "loop_in_c"])
def test_the_death_of_the_parent_ends_the_child(name: str) -> None:
    process = run_script(
        f"""
        import threading
        worker = Worker("worker_functions:{name}", seconds=1, wall_seconds=2)
        call = threading.Thread(target=worker.call, args=(60,) if "{name}" == "sleep" else ())
        call.start()
        while not worker._children:
            time.sleep(0.01)
        print(worker._children[0].process.pid, flush=True)
        call.join()
        """,
        wait=False,
    )
    child = read_pid(process)
    process.kill()
    process.wait()
    assert wait_for_end(child)


def test_ctrl_c_ends_the_call_and_the_child() -> None:
    process = run_script(
        """
        worker = Worker(worker_functions.sleep, seconds=20)
        worker.call(0)
        print(worker._children[0].process.pid, flush=True)
        try:
            worker.call(60)
        except KeyboardInterrupt:
            print(worker.call(0), flush=True)
        """,
        wait=False,
    )
    child = read_pid(process)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("0\n", "")
    assert wait_for_end(child)


def test_a_kill_reaches_the_processes_that_the_child_started(tmp_path: Path) -> None:
    worker = Worker(worker_functions.start_grandchild_and_loop, seconds=0.3)
    assert get_reason(worker, str(tmp_path / "pid")) == "time"
    assert wait_for_end(int((tmp_path / "pid").read_text()))


def test_close_and_collection_end_the_child() -> None:
    worker = Worker(worker_functions.get_pid, seconds=5)
    child = worker.call()
    worker.close()
    assert not is_alive(child)
    child = worker.call()
    del worker
    assert wait_for_end(child)


def test_the_children_of_all_workers_can_be_ended_while_a_call_waits() -> None:
    idle, busy = Worker(worker_functions.get_pid, seconds=5), Worker(time.sleep, seconds=60)
    child = idle.call()
    with ThreadPoolExecutor() as pool:
        call = pool.submit(get_reason, busy, 60)
        while not busy._children:
            time.sleep(0.01)
        end_children()
        assert not is_alive(child)
        assert call.result(10) == "crash"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_module:run", "No module named 'no_such_module'"),
        ("worker_functions:missing", "no attribute 'missing'"),
        ("worker_functions:not_callable", "is not a function"),
    ],
)
def test_a_function_that_cannot_be_imported(name: str, text: str) -> None:
    with pytest.raises(PluginError, match=text):
        Worker[..., Any](name, seconds=5).call()


def test_a_function_without_a_name_is_refused() -> None:
    with pytest.raises(PluginError, match="top of a module"):
        Worker(lambda: 1, seconds=5)


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"seconds": 1, "memory_mb": 0}, {"seconds": 1, "wall_seconds": -1}])
def test_limits_are_above_zero(limits: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="above 0"):
        Worker(worker_functions.echo, **limits)


def test_the_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(WorkerError("time", "slow")))
    assert (error.reason, str(error)) == ("time", "slow")
