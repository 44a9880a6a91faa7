"""Files that are written whole or not at all, and a lock that only one process holds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dsrl.storage.sqlite import store_errors


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a kill leaves the old file or the new one. Make its folder if it is missing.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(path.name + ".part")
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise


def write_folder(files: Mapping[str, str], folder: Path) -> None:
    """Write a new folder of texts. It appears with all its files, or not at all. An empty folder may be there already.

    Args:
        files: path in the folder -> text.
        folder: the new folder; its parents are made if they are missing.

    Raises:
        OSError: something cannot be written, or the folder is not empty.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        for name, text in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        if folder.is_dir():
            folder.rmdir()  # It is empty; if somebody has just put a file into it, this fails.
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class ProcessLock:
    """A lock on a file, held by one process at a time. The operating system frees it when its process ends.

    A second file beside it, ``<name>.owner``, names the process that holds the lock, for error messages: on some systems
    nobody can read a file that is locked.

    Args:
        path: the file; it is made if it is missing, and it stays.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self._owner = path.with_name(path.name + ".owner")
        self._lock = FileLock(path, thread_local=False)
        self._process = os.getpid()

    def acquire(self, wait: bool) -> bool:
        """Take the lock, and return whether this process has it now.

        Args:
            wait: wait until another process releases the lock; False: return False at once.

        Raises:
            OSError: the file cannot be opened, or the file system has no locks.
        """
        from filelock import Timeout

        try:
            self._lock.acquire(blocking=wait)
        except Timeout:
            return False
        with suppress(OSError):
            self._owner.write_text(str(os.getpid()), encoding="ascii")
        return True

    def read_owner(self) -> str:
        """Return the process that holds the lock in words, e.g. ``process 4711``."""
        try:
            return f"process {int(self._owner.read_text(encoding='ascii'))}"
        except (OSError, ValueError):
            return "another process"

    def release(self) -> None:
        """Release the lock. In a forked child this does nothing: the lock belongs to its parent."""
        if self._lock.is_locked and os.getpid() == self._process:
            self._owner.unlink(missing_ok=True)
            self._lock.release()
