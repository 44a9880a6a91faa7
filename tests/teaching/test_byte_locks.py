"""Locks on single bytes, with the system's own module and with the one that Windows has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: A fake ``msvcrt`` for a system that has none: it locks at the current position, as the real one does.
FAKE_MSVCRT = """
import fcntl, sys, types

fake = types.ModuleType("msvcrt")
fake.LK_NBLCK, fake.LK_UNLCK = 2, 0

def locking(descriptor, mode, count):
    how = fcntl.LOCK_UN if mode == fake.LK_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.lockf(descriptor, how, count, 0, 1)
    except OSError as error:
        raise PermissionError(13, "Permission denied") from error

fake.locking = locking
sys.modules["msvcrt"], sys.modules["fcntl"], sys.platform = fake, None, "win32"
import dsrl.teaching.byte_locks
sys.platform = "linux"
"""

HOLD = """
import os
from dsrl.teaching.byte_locks import POSITIONS, try_lock, unlock

file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
places = [0, 7, POSITIONS - 1]
print([try_lock(file, place) for place in places], flush=True)
for line in sys.stdin:
    unlock(file, int(line))
    print("released", flush=True)
"""

TRY = """
import os
from dsrl.teaching.byte_locks import POSITIONS, try_lock

file = os.open(sys.argv[1], os.O_RDWR)
print([try_lock(file, place) for place in (0, 1, 7, POSITIONS - 1)])
"""


@pytest.mark.parametrize("system", ["own", "windows"])
def test_a_byte_is_locked_until_it_is_released_or_its_process_ends(tmp_path: Path, system: str) -> None:
    before = FAKE_MSVCRT if system == "windows" else "import sys"
    path = str(tmp_path / "locks")

    def try_all() -> str:
        command = [sys.executable, "-c", f"{before}\n{TRY}", path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    command = [sys.executable, "-c", f"{before}\n{HOLD}", path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "[True, True, True]\n"
        assert try_all() == "[False, True, False, False]"
        process.stdin.write("7\n")
        process.stdin.flush()
        process.stdout.readline()
        assert try_all() == "[False, True, True, False]"
        process.kill()
    assert try_all() == "[True, True, True, True]"
    assert Path(path).stat().st_size == 0
