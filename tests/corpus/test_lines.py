"""Lines of plain and compressed files, read through a corpus."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsrl.corpus import lines, reader, records
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_packed_files(tmp_path: Path, ending: str, mark: bytes) -> None:
    data = mark + b"".join(json.dumps({"text": f"text {i}"}).encode() + b"\n" for i in range(5000))
    path = tmp_path / f"a{ending}"
    path.write_bytes(pack(data, ending))
    corpus = Corpus([path])
    assert [passage.text for passage in corpus] == [f"text {i}" for i in range(5000)]


def pack(data: bytes, ending: str) -> bytes:
    if ending.endswith(".gz"):
        return gzip.compress(data)
    if ending.endswith(".zst"):
        zstandard = pytest.importorskip("zstandard")
        half = len(data) // 2  # two frames, as packers that use several threads write them
        return zstandard.compress(data[:half]) + zstandard.compress(data[half:])
    return data


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("harm", ["cut", "changed", "not packed"])
def test_a_damaged_packed_file_is_an_error_not_an_early_end(tmp_path: Path, ending: str, harm: str) -> None:
    data = b"".join(json.dumps({"text": os.urandom(20).hex()}).encode() + b"\n" for i in range(3000))
    packed = pack(data, ending)
    if harm == "cut":
        packed = packed[:-40]
    elif harm == "changed":
        middle = len(packed) // 2
        packed = packed[:middle] + bytes(200) + packed[middle + 200 :]
    else:
        packed = data
    path = tmp_path / f"a{ending}"
    path.write_bytes(packed)
    corpus = Corpus([path], max_bad=1)
    with pytest.raises(DataError, match=r"a\.jsonl\.\w+ is damaged after line \d|a\.jsonl\.\w+:\d"):
        list(corpus)


READ_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from dsrl.corpus.reader import Corpus
resource.setrlimit(resource.RLIMIT_DATA, (200 * 2**20, 200 * 2**20))
corpus = Corpus([Path(sys.argv[1])])
print(sum(1 for _ in corpus), [fault.partition(": ")[2] for fault in corpus.faults])
"""


MEBIBYTE = 2**20


GOOD_LINE = b'{"text": "good"}\n'


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize(
    ("middle", "output"),
    [
        (bytes(128 * MEBIBYTE) + b"\n", "2 ['longer than 16 MiB']"),
        (b"\n" * (64 * MEBIBYTE), "2 []"),
        (b" " * (15 * MEBIBYTE) + b"\n\n", "2 []"),
    ],
    ids=["one line", "blank lines", "a long blank line"],
)
def test_a_small_file_that_unpacks_to_a_large_one_is_read_in_little_memory(
    tmp_path: Path, ending: str, middle: bytes, output: str
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(pack(GOOD_LINE + middle, ending) + pack(GOOD_LINE, ending))
    assert path.stat().st_size < MEBIBYTE
    read = [sys.executable, "-c", READ_IN_LITTLE_MEMORY, str(path)]
    process = subprocess.run(read, capture_output=True, text=True, timeout=60)
    assert (process.stderr, process.stdout.strip(), process.returncode) == ("", output, 0)


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_blank_lines_are_counted_and_many_small_frames_are_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    parts = [pack(b"\n" * n + b" \t\r\n  " + GOOD_LINE, ending) for n in (0, 1, 9_000, 300_000)]
    path.write_bytes(b"".join(parts) + pack(b"", ending) * 1_000 + pack(b"{}\n", ending))
    corpus = Corpus([path])
    numbers = [int(passage.id.rpartition(":")[2]) for passage in corpus]
    assert numbers == [2, 5, 9_007, 309_009]
    assert corpus.faults == [f"{path}:309010: no field 'text'; the fields are none"]


def test_a_file_that_needs_gigabytes_to_unpack_is_refused_with_the_way_out(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "a.jsonl.zst"
    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    with path.open("wb") as file, zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file) as out:
        out.write(GOOD_LINE)
    with pytest.raises(
        DataError, match=r"a\.jsonl\.zst cannot be decompressed in less than 128 MiB .* zstd -d --long=31"
    ):
        list(Corpus([path]))


def test_zst_without_the_package_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    path = tmp_path / "a.jsonl.zst"
    path.touch()
    with pytest.raises(DataError, match="pip install zstandard"):
        list(Corpus([path]))


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permissions do not hold back a superuser, who may run these tests.
    (tmp_path / "a.jsonl").write_bytes(GOOD_LINE)
    corpus = Corpus([tmp_path / "a.jsonl"])

    def refuse(path: Path, on_read: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(reader, "open_stream", refuse)
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read: Permission denied"):
        list(corpus)


def test_an_overlong_line_is_a_fault_and_its_rest_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lines, records):
        monkeypatch.setattr(module, "MAX_LINE", 2**20)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("before", "x" * 5 * 2**20, "after")))
    corpus = Corpus([path])
    assert [passage.text for passage in corpus] == ["before", "after"]
    assert corpus.faults == [f"{path}:2: longer than 1 MiB"]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_a_file_that_would_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(lines, "FREE_SIZE", MEBIBYTE)
    path = tmp_path / f"a{ending}"
    path.write_bytes(pack(GOOD_LINE * 20_000, ending))
    assert len(list(Corpus([path]))) == 20_000
    path.write_bytes(pack(GOOD_LINE * 200_000, ending))
    with pytest.raises(DataError, match=r"a\.jsonl\.\w+ unpacks to more than 200 times its size"):
        list(Corpus([path]))


def test_a_byte_order_mark_in_the_middle_of_joined_files_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes((b"\xef\xbb\xbf" + GOOD_LINE + b"\xef\xbb\xbf\n") * 2)
    corpus = Corpus([tmp_path / "a.jsonl"])
    assert (len(list(corpus)), corpus.bad) == (2, 0)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_what_was_read_is_counted_in_bytes_of_the_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    data = b"".join(json.dumps({"text": os.urandom(20).hex()}).encode() + b"\n" for _ in range(50_000))
    path.write_bytes(pack(data, ending))
    corpus = Corpus([path])
    shares = [corpus.bytes_read / corpus.bytes_total for _ in corpus]
    assert shares == sorted(shares)
    assert shares[0] < 0.9
    assert corpus.bytes_read == corpus.bytes_total == path.stat().st_size
