from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dsrl.corpus import documents
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError

#: A PDF of one page with a line of text.
PDF = b"""%%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj
4 0 obj<</Length %d>>stream
%s
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R>>
"""
needs_markitdown = pytest.mark.skipif(
    importlib.util.find_spec("markitdown") is None, reason="the extra documents (markitdown) is not installed"
)


def make_pdf(text: str) -> bytes:
    content = f"BT /F1 18 Tf 20 100 Td ({text}) Tj ET".encode() if text else b""
    return PDF % (len(content), content)


@needs_markitdown
def test_the_documents_of_a_folder_are_read_and_a_scan_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "terms.pdf").write_bytes(make_pdf("Refunds are paid within ten days."))
    (tmp_path / "scan.pdf").write_bytes(make_pdf(""))
    (tmp_path / "broken.docx").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "page.html").write_text("<h1>Returns</h1><script>alert(1)</script><p>Send it back within a month.</p>")
    corpus = Corpus([tmp_path])
    texts = {passage.title: passage.text for passage in corpus}
    assert texts["terms"] == "Refunds are paid within ten days."
    assert "Send it back within a month." in texts["Returns"]
    assert "alert" not in texts["Returns"]
    passed_over = "\n".join(corpus.passed_over)
    assert "scan.pdf: it holds no text, so it is probably a scan" in passed_over
    (broken,) = (text for text in corpus.passed_over if "broken.docx: it cannot be read as a document" in text)
    assert "\n" not in broken


@needs_markitdown
def test_a_scan_that_is_named_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_pdf(""))
    with pytest.raises(DataError, match=r"scan\.pdf:1: it holds no text, so it is probably a scan"):
        list(Corpus([path]))


def test_a_document_without_the_library_is_refused_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "terms.pdf"
    path.write_bytes(make_pdf("Refunds."))
    monkeypatch.setattr(documents, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install \"data-synthesis-rl\[documents\]\""):
        list(Corpus([path]))
    (tmp_path / "a.jsonl").write_text('{"text": "a passage"}\n')
    corpus = Corpus([tmp_path])
    assert [passage.text for passage in corpus] == ["a passage"]
    assert "terms.pdf: it is read with markitdown" in corpus.passed_over[0]
