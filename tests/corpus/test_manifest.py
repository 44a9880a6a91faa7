"""The manifest of an index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsrl.corpus.manifest import IndexSource, Manifest, measure_folder, read_manifest, write_manifest
from dsrl.corpus.reader import Corpus
from dsrl.errors import StoreError

SOURCE = IndexSource(("/a",), "0123456789abcdef", 0.5, 200, 7, 1, ("a:1: bad",), ("b: other",))
MANIFEST = Manifest("bm25", "1", {"language": "german"}, (SOURCE,), "wiki")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    for manifest in (MANIFEST, MANIFEST.begin(SOURCE)):
        write_manifest(tmp_path, manifest)
        assert read_manifest(tmp_path) == manifest
    assert MANIFEST.passages == 7


def test_a_library_that_was_added_counts_when_it_is_finished(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{\n')
    corpus = Corpus([tmp_path / "a.jsonl"])
    list(corpus)
    begun = MANIFEST.begin(IndexSource((str(tmp_path / "a.jsonl"),), "ff"))
    assert begun.passages == 7
    done = begun.finish(corpus)
    assert (done.passages, done.adding, done.sources[1].bad, len(done.sources[1].faults)) == (8, None, 1, 1)
    assert done.sources[1].take_fingerprint() == corpus.fingerprint()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "passages": 3}', '{"retriever": 5'])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert read_manifest(tmp_path) is None


def test_a_newer_version(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 3}))
    with pytest.raises(StoreError, match="newer version of dsrl"):
        read_manifest(tmp_path)


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(10))
    (tmp_path / "c").write_bytes(bytes(5))
    assert measure_folder(tmp_path) == 15
