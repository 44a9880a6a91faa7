from __future__ import annotations

from pathlib import Path

import pytest

from dsrl.errors import PluginError, SettingsError
from dsrl.plugins.files import import_file, name_module


def test_files_of_the_same_name_are_two_modules(tmp_path: Path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"VALUE = {value}\n")
    one, two = (import_file(str(tmp_path / folder / "mine.py"), "override file") for folder in ("a", "b"))
    assert (one.VALUE, two.VALUE) == (1, 2)
    assert one.__name__ == name_module(str(tmp_path / "a" / "mine.py"), "override file")


def test_files_that_cannot_be_imported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"task file .*none\.py does not exist"):
        import_file(str(tmp_path / "none.py"), "task file")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(SettingsError, match="is not a Python file"):
        import_file(str(tmp_path / "text.txt"), "task file")
    (tmp_path / "broken.py").write_text("a = 1\nb = (\n")
    with pytest.raises(PluginError, match=r"task file .*broken\.py:2 cannot be run"):
        import_file(str(tmp_path / "broken.py"), "task file")
