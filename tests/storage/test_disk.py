"""Folders that cannot be written and disks without room are refused, and nothing is left behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dsrl.errors import StoreError
from dsrl.storage.disk import check_room, check_writable


def test_a_folder_is_tried_without_leaving_anything(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "--runs-dir")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/b cannot be a folder, .*--runs-dir"):
        check_writable(tmp_path / "file" / "b", "--runs-dir")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="dangling"):
        check_writable(tmp_path / "dangling", "--runs-dir")
    if os.geteuid():  # root may write what it likes
        (tmp_path / "closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(StoreError, match="cannot be written"):
            check_writable(tmp_path / "closed" / "b", "--runs-dir")


def test_room_of_folders_on_one_disk_counts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeUsage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: FakeUsage)
    check_room({tmp_path / "a": 500, tmp_path / "b": 500}, "it")
    with pytest.raises(StoreError, match=r"it takes at least 1.1 kB, and 1.0 kB is free"):
        check_room({tmp_path / "a": 600, tmp_path / "b": 500}, "it")
