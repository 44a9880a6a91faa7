"""Functions that tests/test_worker.py calls in a worker: each does something that must not harm its caller."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time


def add(a: int, b: int = 0) -> int:
    return a + b


def echo(value: object) -> object:
    return value


def get_pid() -> int:
    return os.getpid()


def loop() -> None:
    while True:
        pass


def loop_in_c() -> int:
    """Keep the interpreter's lock: neither a thread nor a signal handler of Python gets a turn."""
    return 9**9**9


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def take_memory(mebibytes: int) -> int:
    return len(bytes(mebibytes * 2**20))


def exit_at_once(code: int) -> None:
    os._exit(code)


def raise_system_exit() -> None:
    sys.exit("as a script does")


def crash() -> None:
    ctypes.string_at(0)


def raise_error(text: str) -> None:
    raise ValueError(text)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raise_mute() -> None:
    raise Mute


def return_lock() -> object:
    return threading.Lock()


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


def write_to_stdout() -> str:
    print("printed")
    os.write(1, b"written")
    return input() if False else "fine"


def start_grandchild() -> int:
    process = os.fork()
    if process == 0:
        time.sleep(600)
        os._exit(0)
    return process


def start_grandchild_and_loop(path: str) -> None:
    with open(path, "w") as file:
        file.write(str(start_grandchild()))
    loop()


def call_in_worker(name: str) -> object:
    """Call a function in a worker; a process of a pool does this."""
    from dsrl import Worker

    return Worker[..., object](name, seconds=5).call()


not_callable = 3
