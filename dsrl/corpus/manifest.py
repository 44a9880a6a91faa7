"""The manifest of an index: a file beside it that says what the index was made from, and with what."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dsrl.corpus.lines import make_read_error, printable_path
from dsrl.corpus.reader import Corpus
from dsrl.errors import StoreError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import RetrieverSpec
from dsrl.storage.files import replace_file

#: Version of the manifest and of the folder of an index.
FORMAT = 2
_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class IndexSource:
    """A library whose passages are in an index, as the index was made.

    Attributes:
        paths: its files and folders.
        fingerprint: the fingerprint of the corpus.
        max_bad, passage_length: how it was read.
        passages, bad: number of passages and of bad lines.
        faults, passed_over: the first faults, and the files that hold something else.
        is_link: whether it is no library but an index that the engine's own tools have made, and that stays where it is.
    """

    paths: tuple[str, ...]
    fingerprint: str
    max_bad: float = 0.01
    passage_length: int = 0
    passages: int = 0
    bad: int = 0
    faults: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    is_link: bool = False

    def take_fingerprint(self) -> str:
        """Return the fingerprint of the library as it is now.

        Raises:
            DataError: it is not there any more, or cannot be read.
        """
        if self.is_link:
            return fingerprint_folder(Path(self.paths[0]))
        return Corpus([Path(path) for path in self.paths], self.max_bad, self.passage_length).fingerprint()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index was made from, and with what.

    Attributes:
        retriever, version, options: the plugin that made it.
        sources: the libraries in it, in the order in which they were added.
        name: the name that the user gave it; empty for an index that a run made in passing.
        adding: the library that is being added; None if the index is complete.
    """

    retriever: str
    version: str
    options: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[IndexSource, ...] = ()
    name: str = ""
    adding: IndexSource | None = None

    @property
    def passages(self) -> int:
        """Number of passages of the libraries that are completely in the index."""
        return sum(source.passages for source in self.sources)

    def begin(self, source: IndexSource) -> Manifest:
        """Return the manifest while a library is being added."""
        return replace(self, adding=source)

    def finish(self, corpus: Corpus) -> Manifest:
        """Return the manifest when the library that was being added is in the index, as ``corpus`` was read."""
        assert self.adding is not None
        done = replace(
            self.adding,
            passages=corpus.good,
            bad=corpus.bad,
            faults=tuple(corpus.faults),
            passed_over=tuple(corpus.passed_over),
        )
        return replace(self, sources=(*self.sources, done), adding=None)


def make_manifest(retriever: Plugin[RetrieverSpec], name: str = "") -> Manifest:
    """Make the manifest of an index that holds nothing yet."""
    options = {key: str(value) for key, value in retriever.ref.options.items()}
    return Manifest(retriever.name, retriever.version, options, name=name)


def make_source(corpus: Corpus, fingerprint: str) -> IndexSource:
    """Describe a library that will be added to an index."""
    paths = tuple(printable_path(path.resolve()) for path in corpus.paths)
    return IndexSource(paths, fingerprint, corpus.max_bad, corpus.passage_length)


def write_manifest(home: Path, manifest: Manifest) -> None:
    """Write the manifest into the folder of its index, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    content = json.dumps({"format": FORMAT, "passages": manifest.passages, **asdict(manifest)}, indent=2)
    replace_file(home / _FILE, content.encode("utf-8", "replace"))


def read_manifest(home: Path) -> Manifest | None:
    """Read the manifest in the folder of an index; None if there is none that can be read.

    Raises:
        StoreError: a newer version of dsrl made the index.
    """
    try:
        values: dict[str, Any] = json.loads((home / _FILE).read_text(encoding="utf-8"))
        version = values.pop("format", 1)
        if isinstance(version, int) and version > FORMAT:
            raise StoreError(
                f"The index {home} was made by a newer version of dsrl (format {version}; this version reads up to "
                f"{FORMAT}). Update dsrl, or remove the folder and make the index again."
            )
        values.pop("passages")
        adding = values.pop("adding")
        sources = tuple(map(_read_source, values.pop("sources")))
        return Manifest(**values, sources=sources, adding=_read_source(adding) if adding else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_source(values: dict[str, Any]) -> IndexSource:
    lists = {name: tuple(map(str, values[name])) for name in ("paths", "faults", "passed_over")}
    return IndexSource(**{**values, **lists, "passages": int(values["passages"]), "bad": int(values["bad"])})


def fingerprint_folder(folder: Path) -> str:
    """Return 16 hexadecimal digits that change with the names, sizes and times of change of the files in a folder.

    Raises:
        DataError: it cannot be read.
    """
    digest = blake2b(b"dsrl link 1", digest_size=8)
    try:
        for path in sorted([folder] if folder.is_file() else folder.iterdir()):
            stat = path.stat()
            digest.update(json.dumps([printable_path(path.name), stat.st_size, stat.st_mtime_ns]).encode())
    except OSError as error:
        raise make_read_error(folder, error) from error
    return digest.hexdigest()


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    size = 0
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.stat(os.path.join(here, name)).st_size
            except OSError:  # the engine may remove files meanwhile
                continue
    return size
