"""The strict reader: what it reads, what it refuses, and how it says so."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrl.corpus import reader as corpus_module
from dsrl.corpus.embedded import embedded_library
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, SettingsError
from dsrl.types import Passage

MEDQUAD = Path(__file__).parents[3] / "shared" / "data" / "medquad" / "passages.jsonl"


def write(path: Path, lines: Iterable[object]) -> Path:
    """Write JSON Lines; a ``str`` or ``bytes`` goes in as it is."""
    raw = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def good(n: int, word: str = "passage") -> list[dict[str, str]]:
    return [{"text": f"{word} number {i}"} for i in range(n)]


def test_fields_and_made_ids(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [{"id": "x", "title": " T ", "text": " one "}, "", {"text": "two", "id": None}, {"text": "three", "id": 7}],
    )
    corpus = Corpus([path])
    assert list(corpus) == [
        Passage("x", "one", "T"),
        Passage("a.jsonl:3", "two"),
        Passage("7", "three"),
    ]
    assert (corpus.good, corpus.bad, corpus.faults) == (3, 0, [])


def test_line_ends_and_unicode_separators_do_not_split(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "one\u2028two"}\r\n{"text": "three"}'.encode())
    assert [passage.text for passage in Corpus([path])] == ["one\u2028two", "three"]


FAULTS = {
    "not JSON": "{oops",
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "not an object but a list": "[1]",
    "not an object but a string": '"text"',
    "not an object but null": "null",
    "no field 'text'; the fields are 'instruction', 'reference'": {"instruction": "x", "reference": "y"},
    "'text' is empty": {"text": " \n\t"},
    "'text' is not a string but null": {"text": None},
    "'text' is not a string but a number": {"text": 5},
    "'text' holds half a surrogate pair": '{"text": "a \\ud800 b"}',
    "'title' holds half a surrogate pair": '{"text": "a", "title": "\\udfff"}',
    "'title' is not a string but a list": {"text": "a", "title": ["b"]},
    "'id' is not a string but true or false": {"text": "a", "id": True},
    "nested too deeply": "[" * 100_000,
    "thousands of digits": '{"text": "a", "n": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_fault_is_counted_and_named(tmp_path: Path, reason: str) -> None:
    path = write(tmp_path / "a.jsonl", [*good(3), FAULTS[reason], *good(2)])
    corpus = Corpus([path])
    assert len(list(corpus)) == corpus.good == 5
    assert corpus.bad == 1
    assert corpus.faults[0].startswith(f"{path}:4: ")
    assert reason in corpus.faults[0]


def test_faults_stop_at_the_eleventh_in_a_small_library(tmp_path: Path) -> None:
    ten = write(tmp_path / "ten.jsonl", [*good(5), *["{"] * 10])
    assert len(list(Corpus([ten]))) == 5
    eleven = write(tmp_path / "eleven.jsonl", [*good(5), *["{"] * 11])
    corpus = Corpus([eleven])
    with pytest.raises(DataError, match=rf"^{eleven}:16: not JSON.*fault 11 in 16 lines.*\n  {eleven}:6: not JSON"):
        list(corpus)
    assert len(corpus.faults) == corpus_module.FAULTS_KEPT


def test_faults_stop_above_one_percent_in_a_large_library(tmp_path: Path) -> None:
    fine = write(tmp_path / "fine.jsonl", [*good(3000), *["{"] * 30])
    assert len(list(Corpus([fine]))) == 3000
    broken = write(tmp_path / "broken.jsonl", [*good(3000), *["{"] * 31])
    with pytest.raises(DataError, match=r"broken\.jsonl:3031: .*fault 31 in 3,031 lines.*1\.00%"):
        list(Corpus([broken]))
    assert len(list(Corpus([broken], max_bad=0.02))) == 3000
    with pytest.raises(DataError, match=r"broken\.jsonl:3001"):
        list(Corpus([broken], max_bad=0))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_the_largest_share_of_bad_lines_is_a_share(tmp_path: Path, share: float) -> None:
    with pytest.raises(SettingsError, match="max_bad"):
        Corpus([write(tmp_path / "a.jsonl", good(1))], max_bad=share)


def test_another_kind_of_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", good(50))
    write(tmp_path / "test.jsonl", ["{broken"] * 3)
    read = iter(Corpus([tmp_path], max_bad=1))
    with pytest.raises(DataError, match=r"test\.jsonl:1: not JSON.*None of the first 3 lines"):
        next(read)


def test_files_of_a_folder_that_hold_no_passages_are_passed_over_with_a_word(tmp_path: Path) -> None:
    """CRAFT's WikiHow has a test.jsonl with instructions beside its passages."""
    folder = tmp_path / "wikihow" / "cleaned"
    write(folder / "train.jsonl", good(3))
    other = write(folder / "test.jsonl", [{"instruction": "i", "reference": "r"}] * 30)
    corpus = Corpus([tmp_path])
    assert len(list(corpus)) == 3
    assert (corpus.bad, corpus.passed_over) == (
        0,
        [f"{other}: no field 'text'; the fields are 'instruction', 'reference'"],
    )
    with pytest.raises(DataError, match=r"test\.jsonl:1: no field 'text'"):
        list(Corpus([other]))
    (folder / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"holds no passages(.|\n)*test\.jsonl: no field 'text'"):
        list(Corpus([tmp_path]))


def test_folders_are_read_in_order_and_hidden_files_are_not(tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(library / "b.jsonl", [{"text": "second"}])
    write(library / "a" / "wiki_00.jsonl", [{"text": "first"}])
    write(library / "c.json.gz", []).write_bytes(gzip.compress(b'{"text": "third"}'))
    write(library / "d.txt", ["fourth", "", "lines"])
    for ignored in ("._b.jsonl", ".cache/x.jsonl", "info.json", "page.xml"):
        write(library / ignored, ["not read"])
    assert list(Corpus([library])) == [
        Passage("library/a/wiki_00.jsonl:1", "first"),
        Passage("library/b.jsonl:1", "second"),
        Passage("library/c.json.gz:1", "third"),
        Passage("library/d.txt:1", "fourth\n\nlines", "d"),
    ]


def test_long_documents_are_cut_if_the_user_wants_it(tmp_path: Path) -> None:
    text = "A sentence of ten words is not a long one. " * 20
    path = write(
        tmp_path / "a.jsonl",
        [
            {"id": "x", "title": "T", "text": text},
            {"text": text},
            {"id": "x", "text": text},
            {"id": "y#1", "text": "y"},
        ],
    )
    assert [p.id for p in Corpus([path])] == ["x", "a.jsonl:2", "x@a.jsonl:3", "y#1"]
    parts = list(Corpus([path], passage_length=500))
    assert [p.id for p in parts] == [
        *("x#1", "x#2", "a.jsonl:2#1", "a.jsonl:2#2", "x@a.jsonl:3#1", "x@a.jsonl:3#2"),
        "y#1@a.jsonl:4",
    ]
    assert all(p.title == "T" for p in parts[:2])
    assert Corpus([path]).fingerprint() != Corpus([path], passage_length=500).fingerprint()
    with pytest.raises(SettingsError, match="at least 100 characters, or 0"):
        Corpus([path], passage_length=99)


def test_a_plain_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Die Brücke ist schön.\n".encode("latin-1") * 30)
    with pytest.raises(DataError, match=r"a\.txt:1: not UTF-8 at byte 7"):
        list(Corpus([tmp_path / "a.txt"]))


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", good(3))
    (tmp_path / "link.jsonl").symlink_to(path)
    assert len(list(Corpus([path, tmp_path, path, tmp_path / "link.jsonl"]))) == 3


def test_ids_are_unique(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a" / "p.jsonl",
        [{"id": "x", "text": "1"}, {"id": "x", "text": "2"}, {"text": "3"}, {"id": "p.jsonl:3", "text": "4"}],
    )
    second = write(tmp_path / "b" / "p.jsonl", [{"id": "x", "text": "5"}, {"text": "6"}])
    ids = [passage.id for passage in Corpus([first])]
    assert ids == ["x", "x@p.jsonl:2", "p.jsonl:3", "p.jsonl:3@p.jsonl:4"]
    ids = [passage.id for passage in Corpus([first, second])]
    assert len(set(ids)) == 6


def test_what_is_no_library(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no passage library at .*nowhere"):
        Corpus([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="No passage library was named"):
        Corpus([])
    with pytest.raises(DataError, match=r"holds no passage files\. They end with \.jsonl"):
        Corpus([tmp_path])
    with pytest.raises(DataError, match="is not a passage file"):
        Corpus([write(tmp_path / "notes.xml", [])])
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        Corpus([tmp_path / "pipe.jsonl"])
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    with pytest.raises(DataError, match=r"no passage in .*empty\.jsonl"):
        list(Corpus([tmp_path / "empty.jsonl"]))


def test_iterating_again_counts_anew(tmp_path: Path) -> None:
    corpus = Corpus([write(tmp_path / "a.jsonl", [*good(3), "{"])])
    assert list(corpus) == list(corpus)
    assert (corpus.good, corpus.bad, len(corpus.faults)) == (3, 1, 1)


def test_memory_is_flat(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ({"text": "word " * 200} for _ in range(20_000)))
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in Corpus([path])) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 18 * 2**20  # 16 MiB of which are the record of met ids


def test_the_fingerprint_follows_content_name_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = write(tmp_path / "x" / "a.jsonl", good(3)), write(tmp_path / "x" / "b.jsonl", good(3, "other"))
    first = Corpus([a, b]).fingerprint()
    assert first == Corpus([a, b]).fingerprint()
    os.utime(a, ns=(1, 1))
    assert first == Corpus([a, b]).fingerprint()
    copies = [write(tmp_path / "y" / "a.jsonl", good(3)), write(tmp_path / "y" / "b.jsonl", good(3, "other"))]
    assert first == Corpus(copies).fingerprint()
    edited = a.read_bytes().replace(b"number 1", b"number 7")
    others = {Corpus([b, a]).fingerprint(), Corpus([a]).fingerprint(), Corpus([tmp_path / "x"]).fingerprint()}
    a.write_bytes(edited)
    others.add(Corpus([a, b]).fingerprint())
    assert len(others | {first}) == 5
    monkeypatch.setattr(corpus_module, "LARGEST_HASHED", 10)
    large = Corpus([a, b]).fingerprint()
    os.utime(a, ns=(5, 5))
    assert large != Corpus([a, b]).fingerprint()


def test_file_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl"))
    try:
        write(path, [*good(1), "{"])
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    corpus = Corpus([path])
    (passage,) = corpus
    assert passage.id == "caf\\xe9.jsonl:1"
    (passage.id + corpus.faults[0] + corpus.fingerprint()).encode()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields = st.fixed_dictionaries({}, optional=dict.fromkeys(("text", "id", "title", "url"), anything))
hostile = st.binary(max_size=60) | fields.map(lambda record: json.dumps(record).encode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(hostile, max_size=8))
def test_hostile_lines_are_passages_or_faults(tmp_path: Path, lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "sure"}\n' + b"\n".join(lines))
    corpus = Corpus([path])
    passages = list(corpus)
    blank = sum(not line.removeprefix(b"\xef\xbb\xbf").strip() for line in lines)
    assert len(passages) == corpus.good
    assert corpus.good + corpus.bad == 1 + len(lines) - blank
    assert len({passage.id for passage in passages}) == len(passages)
    for passage in passages:
        assert passage.text.strip()
        (passage.id + passage.title + passage.text).encode()
    "".join(corpus.faults).encode()


def pack_lines(lines: list[bytes], ending: str) -> bytes:
    """Return the bytes of a file with these lines."""
    data = b"\n".join(lines)
    if ending.endswith(".tar.gz"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            member = tarfile.TarInfo("a.jsonl")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        data = stream.getvalue()
    if ending.endswith(".gz"):
        return gzip.compress(data, 1)
    if ending.endswith(".zst"):
        return bytes(pytest.importorskip("zstandard").compress(data))
    return data


bad_lines = st.binary(max_size=60).map(lambda line: b"\xff" + line) | st.sampled_from(
    [
        b"{",
        b"[]",
        b"null",
        b"5",
        b'{"text": 5}',
        b'{"text": ""}',
        b'{"text": "\\ud800"}',
        b'{"txt": "x"}',
        b'{"text": "x"',
        b"\x00",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(min_size=1).filter(lambda text: bool(text.strip())), max_size=12),
    bad=st.lists(st.tuples(st.integers(0, 12), bad_lines), max_size=12),
    ending=st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst", ".tar.gz"]),
    line_end=st.sampled_from([b"", b"\r", b" \t"]),
)
def test_no_good_line_is_lost_for_a_bad_one(
    tmp_path: Path, texts: list[str], bad: list[tuple[int, bytes]], ending: str, line_end: bytes
) -> None:
    lines = [b'{"text": "sure"}', *(json.dumps({"text": text}).encode() for text in texts)]
    for at, line in bad:
        lines.insert(1 + min(at, len(lines) - 1), line.replace(b"\n", b""))
    path = tmp_path / f"a{ending}"
    path.write_bytes(pack_lines([line + line_end for line in lines], ending))
    corpus = Corpus([path], max_bad=1)
    assert [passage.text for passage in corpus] == ["sure", *(text.strip() for text in texts)]
    assert corpus.bad == len(bad)


def test_the_embedded_library() -> None:
    corpus = Corpus([embedded_library()])
    passages = list(corpus)
    assert corpus.bad == 0
    kinds = {"medical": 200, "quantities": 120, "general": 60}
    by_kind = {kind: [passage for passage in passages if passage.id.startswith(f"{kind}/")] for kind in kinds}
    for kind, least in kinds.items():
        assert len(by_kind[kind]) >= least
    assert sum(map(len, by_kind.values())) == len(passages)
    assert len({p.text for p in passages}) == len({p.title for p in passages}) == len(passages)
    assert all(p.title and 55 <= len(p.text.split()) <= 120 for p in passages)
    # Word problems are grounded on these: each names several numbers.
    assert all(sum(c.isdigit() for c in p.text) >= 4 for p in by_kind["quantities"])
    assert sum(file.stat().st_size for file in embedded_library().glob("*")) < 400_000


@pytest.mark.skipif(not MEDQUAD.exists(), reason=f"the MedQuAD passages are not at {MEDQUAD}")
def test_medquad_is_read_without_a_fault() -> None:
    corpus = Corpus([MEDQUAD.parent])
    ids = {passage.id for passage in corpus}
    assert (corpus.good, corpus.bad, len(ids)) == (27_254, 0, 27_254)
