"""Archives, read in place through a corpus."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrl.corpus.archives import read_members
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError


def pack(files: Mapping[str, bytes], **options: object) -> bytes:
    """Return a tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", **options) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def test_the_files_of_an_archive_are_read_in_place(tmp_path: Path) -> None:
    files = {
        "./wikipedia/cleaned/wiki_00.jsonl": lines("one", "two"),
        "wikipedia/cleaned/wiki_01.jsonl": b"\n" + lines("three"),
        "wikihow/cleaned/test.jsonl": b'{"instruction": "i", "reference": "r"}\n',
        "notes/river.md": b"# The Rhine\n\nIt flows north.\n",
        "._wiki.jsonl": b"rubbish",
        "README.md": b"About this archive.",
        "picture.png": b"\x89PNG",
        "inner.tar": pack({"x.jsonl": lines("inner")}),
    }
    path = tmp_path / "craft.tar.gz"
    path.write_bytes(gzip.compress(pack(files)))
    corpus = Corpus([path])
    assert [(p.id, p.text, p.title) for p in corpus] == [
        ("craft.tar.gz/wikipedia/cleaned/wiki_00.jsonl:1", "one", ""),
        ("craft.tar.gz/wikipedia/cleaned/wiki_00.jsonl:2", "two", ""),
        ("craft.tar.gz/wikipedia/cleaned/wiki_01.jsonl:2", "three", ""),
        ("craft.tar.gz/notes/river.md:1", "# The Rhine\n\nIt flows north.", "The Rhine"),
    ]
    assert [text.partition(": ")[0].removeprefix(f"{path}/") for text in corpus.passed_over] == [
        "wikihow/cleaned/test.jsonl",
        "README.md",
        "inner.tar",
    ]
    assert os.listdir(tmp_path) == ["craft.tar.gz"]
    assert corpus.bytes_read == corpus.bytes_total == path.stat().st_size


@pytest.mark.parametrize("ending", [".tar", ".tgz", ".tar.gz", ".tar.zst"])
def test_kinds_of_archives(tmp_path: Path, ending: str) -> None:
    data = pack({"a.jsonl": lines(*map(str, range(1000)))})
    if ending.endswith("gz"):
        data = gzip.compress(data)
    elif ending.endswith("zst"):
        data = pytest.importorskip("zstandard").compress(data)
    (tmp_path / f"a{ending}").write_bytes(data)
    assert [passage.text for passage in Corpus([tmp_path])] == [str(number) for number in range(1000)]


def test_paths_that_lead_out_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    path.write_bytes(pack({"../../out.jsonl": lines("one"), "/etc/passages.jsonl": lines("two")}))
    assert [p.id for p in Corpus([path])] == ["a.tar/out.jsonl:1", "a.tar/etc/passages.jsonl:1"]
    assert [file.name for file in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_links_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo("x.jsonl")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        content = lines("good")
        member = tarfile.TarInfo("x.jsonl")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    (tmp_path / "a.tar").write_bytes(stream.getvalue())
    assert [p.text for p in Corpus([tmp_path / "a.tar"])] == ["good"]


def test_two_files_of_one_name_have_different_ids(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for text in ("old", "new"):
            content = lines(text)
            member = tarfile.TarInfo("x.jsonl")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "a.tar").write_bytes(stream.getvalue())
    assert [p.id for p in Corpus([tmp_path / "a.tar"])] == ["a.tar/x.jsonl:1", "a.tar/2/x.jsonl:1"]


@pytest.mark.parametrize("harm", ["cut in a file", "cut at a header", "cut before the end", "a changed header"])
def test_a_damaged_archive_is_an_error_not_an_early_end(tmp_path: Path, harm: str) -> None:
    data = pack({"a.jsonl": lines("x" * 2000), "b.jsonl": lines("y" * 2000)})
    second = 512 + 2048
    if harm == "a changed header":
        data = data[: second + 10] + b"\xff" * 20 + data[second + 30 :]
    else:
        data = data[: {"cut in a file": 1500, "cut at a header": second, "cut before the end": 2 * second}[harm]]
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tar.* is damaged"):
        list(Corpus([tmp_path / "a.tar"]))


def test_a_packed_archive_that_is_cut_after_its_last_file(tmp_path: Path) -> None:
    packed = gzip.compress(pack({"a.jsonl": lines("x")}))
    (tmp_path / "a.tar.gz").write_bytes(packed[:-4])
    with pytest.raises(DataError, match="is damaged"):
        list(Corpus([tmp_path / "a.tar.gz"]))


def test_a_header_that_promises_gigabytes_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x.jsonl")
    member.type, member.size = tarfile.XHDTYPE, 2**34
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    with pytest.raises(DataError, match="a header is too large"):
        list(Corpus([tmp_path / "a.tar"]))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_hostile_bytes_are_members_or_damage(noise: bytes, at: int) -> None:
    data = pack({"a.jsonl": lines("x"), "b" * 120 + ".jsonl": lines("y")}, format=tarfile.PAX_FORMAT)
    data = data[:at] + noise + data[at + len(noise) :]
    try:
        for _, content in read_members(io.BufferedReader(io.BytesIO(data)), "a.tar"):  # type: ignore[arg-type]
            assert len(content.read()) <= len(data)
    except (DataError, tarfile.TarError):
        pass
