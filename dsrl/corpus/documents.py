"""Documents of offices and publishers (PDF, Word, HTML and others) as Markdown, by the library markitdown.

It is an extra: ``pip install "data-synthesis-rl[documents]"``. A document is hostile input, so it is read in a process of
its own with limits on time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from dsrl.corpus.records import Fault, Line
from dsrl.worker import Worker, WorkerError

SUFFIXES = (".pdf", ".docx", ".pptx", ".epub", ".html", ".htm")
#: Limits for one document: seconds of the processor, and mebibytes.
SECONDS, MEMORY_MB = 300.0, 4096
#: Most characters of a document that are kept.
LONGEST = 50_000_000
_NOT_INSTALLED = 'it is read with markitdown, which is not installed (pip install "data-synthesis-rl[documents]")'
_NO_TEXT = "it holds no text, so it is probably a scan: run a text recognition (OCR) over it, or leave it out"


def read_document(path: Path) -> Iterator[Line] | Fault:
    """Return the lines of a document as Markdown, or a fault that is its only record; then it is passed over in a folder."""
    if find_spec("markitdown") is None:
        return Fault(1, _NOT_INSTALLED, is_foreign=True)
    worker = Worker(convert, seconds=SECONDS, memory_mb=MEMORY_MB)
    try:
        text = worker.call(str(path.resolve()))
    except WorkerError as error:
        reason = " ".join(str(error).split())[:300]
        return Fault(1, f"it cannot be read as a document ({reason})", is_foreign=True)
    finally:
        worker.close()
    if not text.strip():
        return Fault(1, _NO_TEXT, is_foreign=True)
    return enumerate((line.encode("utf-8", "replace") for line in text.split("\n")), 1)


def convert(path: str) -> str:
    """Return a document as Markdown; runs in the worker."""
    from markitdown import MarkItDown, converters

    library = MarkItDown(enable_builtins=False, enable_plugins=False)
    # Only these: the library would otherwise take a damaged document for a plain text.
    for converter in (
        converters.PdfConverter,
        converters.DocxConverter,
        converters.PptxConverter,
        converters.EpubConverter,
        converters.HtmlConverter,
    ):
        library.register_converter(converter())
    return library.convert_local(path).text_content[:LONGEST].replace("\f", "\n\n")
