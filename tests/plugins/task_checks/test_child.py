"""A function in a child process: what it sends comes at once, and it can neither hang nor crash its parent."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import pytest

from dsrl.plugins.task_checks.child import ChildStopped, stream_from_child


def send_all(send: Any, values: list[Any]) -> None:
    for value in values:
        send(value)


def hang(send: Any) -> None:
    send("begun")
    while True:
        pass


def end(send: Any) -> None:
    send("begun")
    os._exit(7)


def start_another(send: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    process.start()
    send(process.pid)


def eat(send: Any) -> None:
    try:
        send(len(bytearray(20 * 2**30)))
    except MemoryError:
        send("no memory")


def collect(function: Any, *arguments: Any, limit: float = 20.0) -> list[Any]:
    return list(stream_from_child(function, arguments, lambda value: limit))


def test_values_come_in_order() -> None:
    assert collect(send_all, [1, "two", None, [3]]) == [1, "two", None, [3]]


def test_a_hanging_function_is_stopped_where_it_is() -> None:
    stream = stream_from_child(hang, (), lambda value: 0.5)
    assert next(stream) == "begun"
    with pytest.raises(ChildStopped, match=r"did not return within 0\.5 s") as stop:
        next(stream)
    assert "in hang" in stop.value.stack
    assert "test_child.py" in stop.value.stack


def test_the_exit_code_is_told() -> None:
    with pytest.raises(ChildStopped, match="ended its process with exit code 7"):
        collect(end)


def test_the_limit_can_follow_from_the_value() -> None:
    stream = stream_from_child(hang, (), {"begun": 0.2}.__getitem__)
    next(stream)
    with pytest.raises(ChildStopped, match=r"within 0\.2 s"):
        next(stream)


def test_its_own_processes_are_killed_too() -> None:
    stream = stream_from_child(start_another, (), lambda value: 20.0)
    pid = next(stream)
    os.kill(pid, 0)
    stream.close()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return  # killed, and not yet collected by its new parent
        except FileNotFoundError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def test_the_memory_is_limited() -> None:
    assert collect(eat) == ["no memory"]
