"""Checks of folders and disks before anything is written to them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dsrl.errors import StoreError


def check_writable(folder: Path, flag: str) -> None:
    """Refuse a folder that cannot be made or written to, by writing a temporary file to it or to its nearest parent.

    Args:
        folder: it does not have to exist; nothing is left behind.
        flag: the flag that names another folder, for the error text.

    Raises:
        StoreError: names the folder and the flag.
    """
    parent = _find_existing(folder)
    if not parent.is_dir():
        raise StoreError(f"{folder} cannot be a folder, because {parent} is a file; name another folder with {flag}")
    try:
        with tempfile.TemporaryFile(dir=parent, prefix=".dsrl-check-"):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(
                f"{folder}: there is no room on the disk; free some space, or name another folder with {flag}"
            ) from error
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); check the permissions of {parent}, or name another folder "
            f"with {flag}"
        ) from error


def check_room(needs: Mapping[Path, int], what: str) -> None:
    """Refuse a disk with too little free space; folders on the same disk are added up.

    Args:
        needs: folder -> bytes that it will take at least. The folders do not have to exist.
        what: what is going to be written, for the error text.

    Raises:
        StoreError: names the folder, the bytes that are needed and the bytes that are free.
    """
    by_disk: dict[int, list[Path]] = {}
    for folder in needs:
        with suppress(OSError):  # whatever writes to an unreachable folder reports it
            by_disk.setdefault(_find_existing(folder).stat().st_dev, []).append(folder)
    for folders in by_disk.values():
        needed = sum(needs[folder] for folder in folders)
        free = shutil.disk_usage(_find_existing(folders[0])).free
        if free < needed:
            raise StoreError(
                f"there is no room on the disk of {folders[0]}: {what} takes at least {_format_size(needed)}, and "
                f"{_format_size(free)} is free; free some space, or use a folder on another disk"
            )


def _find_existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    path = folder.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _format_size(size: int) -> str:
    for unit, bytes_per_unit in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_per_unit:
            return f"{size / bytes_per_unit:.1f} {unit}"
    return f"{size} bytes"
