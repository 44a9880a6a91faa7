"""Locks on single bytes of a file that belong to a process: on POSIX by ``fcntl``, on Windows by ``msvcrt``.

The operating system releases them at the moment the process ends, also after a ``kill -9``. Such a lock costs one system
call and writes nothing, so it works on a full disk too. No maintained library locks single bytes (``filelock`` and
``portalocker`` lock whole files, and one open file for each of ten thousand claims would be too many), so this module
chooses between the two modules of the standard library. It is the only one that imports them.
"""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt

    #: Bytes that can be locked; ``msvcrt`` takes positions of 31 bits.
    POSITIONS = 2**31 - 1

    def try_lock(descriptor: int, position: int) -> bool:
        """Lock one byte of an open file; return False if another process has locked it.

        Raises:
            OSError: the file cannot be locked.
        """
        os.lseek(descriptor, position, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def unlock(descriptor: int, position: int) -> None:
        """Release a byte that :func:`try_lock` has locked.

        Raises:
            OSError: it cannot be released.
        """
        os.lseek(descriptor, position, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    POSITIONS = 2**60

    def try_lock(descriptor: int, position: int) -> bool:
        """Lock one byte of an open file; return False if another process has locked it.

        Raises:
            OSError: the file cannot be locked.
        """
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(descriptor: int, position: int) -> None:
        """Release a byte that :func:`try_lock` has locked.

        Raises:
            OSError: it cannot be released.
        """
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, position)
