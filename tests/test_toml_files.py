from __future__ import annotations

from pathlib import Path

import pytest

from dsrl.errors import SettingsError
from dsrl.plugins.recipes import read_recipe
from dsrl.plugins.task_files import FileTask
from dsrl.settings import read_settings
from dsrl.toml_files import parse_toml, read_toml_text


@pytest.mark.parametrize("read", [read_settings, read_recipe, FileTask])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[a\n", "is not TOML: "),
        (b"\xff\xfe", r"is not UTF-8 \(byte 0\); save it as UTF-8"),
        (b"a = " + b"[" * 15_000, "is nested too deeply"),
        (b"a = " + b"9" * 10_000, "is not TOML: "),
        (b"#" * (2**20 + 1), "is longer than [0-9,]+ KiB, the limit of such a file"),
    ],
    ids=["syntax", "encoding", "nesting", "digits", "length"],
)
def test_every_toml_file_is_refused_in_the_same_words(
    tmp_path: Path, read: object, content: bytes, reason: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"a.toml {reason}"):
        read(path)  # type: ignore[operator]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_a_file_without_an_end_is_not_read_to_its_end() -> None:
    with pytest.raises(SettingsError, match="settings file /dev/zero is longer than 1,024 KiB"):
        read_settings(Path("/dev/zero"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the file none\.toml does not exist"):
        read_toml_text(tmp_path / "none.toml", "the file none.toml")
    with pytest.raises(SettingsError, match="the folder cannot be read: Is a directory"):
        read_toml_text(tmp_path, "the folder")


def test_a_mark_of_the_byte_order_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes("\ufeffa = 1\n".encode())
    assert parse_toml(read_toml_text(path, "it"), "it") == {"a": 1}


def test_control_characters_of_a_text_do_not_reach_the_terminal() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_toml("[\x1b]", "it")
    assert "\x1b" not in str(caught.value)
