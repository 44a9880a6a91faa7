"""The passages of a run: an index, made once for each corpus and retriever, and a search in it.

All indexes are in one folder. The name of an index holds the fingerprint of the corpus, the retriever, its version and a
hash of its options. An index with the right name is therefore up to date, and an edited library gets a new index::

    <directory>/<fingerprint>-<retriever>-<version>/
        manifest.json   the corpus and the retriever that it was made from
        index/          the files of the search engine

An index is made in a temporary folder that is renamed when it is complete. A kill therefore leaves no incomplete index, and
no two processes write to one folder. A process that needs an index that another one is making waits for it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, PluginError, SettingsError, StoreError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import RetrieverSpec
from dsrl.storage.files import ProcessLock
from dsrl.types import Passage

#: ``on_progress`` is called each time this many passages were indexed.
PROGRESS_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class Index:
    """An index that can be searched.

    Attributes:
        directory: the folder of the search engine, which is passed to the hook ``search``.
        passages: number of passages in it.
        is_new: whether this call made it; False if it was there before.
    """

    directory: Path
    passages: int
    is_new: bool


def search_passages(retriever: Plugin[RetrieverSpec], index: Index, keywords: Sequence[str], k: int) -> list[Passage]:
    """Return the ``k`` best passages for all keywords together, best first (paper, section 4.1).

    Texts that differ in white space only count as one text, of which the best-ranked passage stays. As in the paper's code,
    such repetitions are removed after the search, so fewer than ``k`` passages may be returned.

    Args:
        retriever: the bound plugin.
        index: an index that this retriever made.
        keywords: any strings; without a keyword that the engine knows the result is empty.
        k: 1 or more.

    Raises:
        PluginError: the retriever returned something other than up to ``k`` passages.
        SettingsError: ``k`` is below 1.
    """
    if k < 1:
        raise SettingsError(f"The number of passages to search for must be at least 1, not {k}.")
    hits = retriever.hook.search(directory=index.directory, keywords=list(keywords), k=k)
    if not isinstance(hits, Sequence) or not all(isinstance(passage, Passage) for passage in hits):
        raise PluginError(f"The retriever {retriever.name} {retriever.version} did not return a list of passages.")
    if len(hits) > k:
        raise PluginError(
            f"The retriever {retriever.name} {retriever.version} was asked for {k:,} passages and returned {len(hits):,}."
        )
    by_text: dict[str, Passage] = {}
    for passage in hits:
        by_text.setdefault(" ".join(passage.text.split()), passage)
    return list(by_text.values())


def ensure_index(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    directory: Path,
    on_progress: Callable[[int], None] | None = None,
    fingerprint: str = "",
) -> Index:
    """Return the index of ``corpus`` for ``retriever``; make it if it does not exist.

    Args:
        retriever: the bound plugin.
        corpus: the passages. Its ``good``, ``bad`` and ``faults`` are set to what was read when the index was made, also if
            an earlier run made it.
        directory: the folder of all indexes; it is made if it is missing.
        on_progress: called with the number of passages indexed so far; not called if the index exists.
        fingerprint: the fingerprint of the corpus if the caller has it; computing it reads the whole corpus.

    Raises:
        DataError: the corpus cannot be read, or it was changed meanwhile.
        PluginError: the index does not hold exactly the passages that were read.
        StoreError: the folder cannot be written.
    """
    fingerprint = fingerprint or corpus.fingerprint()
    name = _make_name(retriever, fingerprint)
    home = directory / name
    index = _open(home, corpus)
    if index:
        return index
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _exclusive(directory / f".{name}.lock") as is_locked:
            if is_locked:
                # Nobody else holds the lock, so the processes that made these were killed.
                for remains in directory.glob(f".{name}.tmp-*"):
                    shutil.rmtree(remains, ignore_errors=True)
                index = _open(home, corpus)  # another process may have made it while this one waited
                if index:
                    return index
                if home.exists():  # without a readable manifest it is not an index that this module made
                    shutil.rmtree(home)
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.tmp-", dir=directory))
            try:
                _build(retriever, corpus, fingerprint, temporary, on_progress)
                try:
                    temporary.rename(home)
                except OSError:
                    if not _open(home, corpus):
                        raise
                    # The file system has no locks and another process was faster. Its index is the same as this one.
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"The index of the passages cannot be written to {directory}: {error.strerror or error}. "
            "Free some room, correct the permissions, or choose another folder."
        ) from error
    index = _open(home, corpus)
    if not index:
        raise StoreError(f"The index {home} was removed while it was made. Give the same command again.")
    return replace(index, is_new=True)


def _build(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    fingerprint: str,
    home: Path,
    on_progress: Callable[[int], None] | None,
) -> None:
    at_end = False

    def read_passages() -> Iterator[Passage]:
        nonlocal at_end
        for passage in corpus:
            yield passage
            if on_progress and corpus.good % PROGRESS_EVERY == 0:
                on_progress(corpus.good)
        at_end = True

    folder = home / "index"
    folder.mkdir()
    count = retriever.hook.index(passages=read_passages(), directory=folder)
    name = f"The retriever {retriever.name} {retriever.version}"
    if not at_end:
        raise PluginError(f"{name} stopped after {corpus.good:,} passages, before the end of the corpus.")
    if count != corpus.good:
        raise PluginError(f"{name} got {corpus.good:,} passages and reports that its index holds {count!r}.")
    if corpus.fingerprint() != fingerprint:
        raise DataError("The passage library was changed while it was indexed. Give the same command again.")
    if on_progress:
        on_progress(corpus.good)
    manifest = {
        "retriever": retriever.name,
        "version": retriever.version,
        "options": _options(retriever),
        "corpus": [os.fsencode(path.resolve()).decode("utf-8", "backslashreplace") for path in corpus.paths],
        "fingerprint": fingerprint,
        "passages": corpus.good,
        "bad": corpus.bad,
        "faults": corpus.faults,
    }
    with (home / "manifest.json").open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _open(home: Path, corpus: Corpus) -> Index | None:
    try:
        manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
        passages, bad, faults = int(manifest["passages"]), int(manifest["bad"]), [*map(str, manifest["faults"])]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folder = home / "index"
    if not folder.is_dir():
        return None
    # The corpus reports what was read when this index was made, as if it had just been read.
    corpus.good, corpus.bad, corpus.faults = passages, bad, faults
    return Index(folder, passages, is_new=False)


def _make_name(retriever: Plugin[RetrieverSpec], fingerprint: str) -> str:
    parts = [fingerprint, retriever.name, retriever.version]
    # Options and overrides can change the content of an index.
    if retriever.ref.options or retriever.ref.overrides:
        plugin = json.dumps([_options(retriever), retriever.ref.overrides], sort_keys=True)
        parts.append(blake2b(plugin.encode(), digest_size=4).hexdigest())
    return re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts))


def _options(retriever: Plugin[RetrieverSpec]) -> dict[str, str]:
    return {key: str(value) for key, value in retriever.ref.options.items()}


@contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    """Wait until no other process holds this lock, and hold it. Yield False if the file system has no locks."""
    lock = ProcessLock(path)
    is_locked = False
    with suppress(OSError):
        is_locked = lock.acquire(wait=True)
    try:
        yield is_locked
    finally:
        lock.release()
