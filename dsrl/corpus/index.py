"""The passages of a run: an index, made once for a corpus and a retriever, and a search in it.

Indexes lie side by side in one folder, each under a name that holds the corpus's fingerprint, the retriever, its version
and its options. One that is there is therefore the right one, and an edited library gets a new one::

    <directory>/<fingerprint>-<retriever>-<version>/
        manifest.json   what it was made of
        index/          the engine's own files

It is built in a folder of its own and renamed when it is whole, so that a kill leaves no half index behind, and no two
processes write to one folder. The second of two that want the same index waits for the first.
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

#: ``on_progress`` is called after so many passages.
PROGRESS_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class Index:
    """An index that can be searched.

    Attributes:
        directory: the engine's folder, what the ``search`` hook is given.
        passages: how many it holds.
        built: made by this call; False when it was there.
    """

    directory: Path
    passages: int
    built: bool


def passages_for(retriever: Plugin[RetrieverSpec], index: Index, keywords: Sequence[str], k: int) -> list[Passage]:
    """Find passages (paper, section 4.1): the ``k`` best for all keywords together, without repeated texts, best first.

    Fewer than ``k`` where the corpus has no more, or where texts repeat: repetitions are dropped after the search, as in
    the original. Two texts are one when they differ in white space only; the better-ranked passage stays.

    Args:
        retriever: the bound plugin.
        index: what is searched; the retriever made it.
        keywords: any strings; none at all, or none that the engine knows, finds nothing.
        k: 1 or more.

    Raises:
        PluginError: the retriever found something else than up to ``k`` passages.
        SettingsError: ``k`` is below 1.
    """
    if k < 1:
        raise SettingsError(f"The number of passages to search for must be at least 1, not {k}.")
    found = retriever.hook.search(directory=index.directory, keywords=list(keywords), k=k)
    if not isinstance(found, Sequence) or not all(isinstance(passage, Passage) for passage in found):
        raise PluginError(f"The retriever {retriever.name} {retriever.version} did not find a list of passages.")
    if len(found) > k:
        raise PluginError(
            f"The retriever {retriever.name} {retriever.version} was asked for {k:,} passages and gave {len(found):,}."
        )
    by_text: dict[str, Passage] = {}
    for passage in found:
        by_text.setdefault(" ".join(passage.text.split()), passage)
    return list(by_text.values())


def index_for(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    directory: Path,
    on_progress: Callable[[int], None] | None = None,
    fingerprint: str = "",
) -> Index:
    """Give the index of ``corpus`` for ``retriever``, made now unless it is there.

    Args:
        retriever: the bound plugin.
        corpus: what is indexed. Its ``good``, ``bad`` and ``faults`` then tell of the reading that the index was made
            from, also when that was in an earlier run.
        directory: where indexes are kept; made if it is not there.
        on_progress: told how many passages were indexed so far; not called when the index is there already.
        fingerprint: the corpus's, where it is known; it takes reading the whole corpus.

    Raises:
        DataError: the corpus cannot be read, or was changed meanwhile.
        PluginError: the index does not hold exactly the passages that were read.
        StoreError: the folder cannot be written.
    """
    fingerprint = fingerprint or corpus.fingerprint()
    name = _name(retriever, fingerprint)
    home = directory / name
    there = _open(home, corpus)
    if there:
        return there
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _exclusive(directory / f".{name}.lock") as is_locked:
            if is_locked:
                for left in directory.glob(f".{name}.tmp-*"):  # its builder was killed: nobody else holds the lock
                    shutil.rmtree(left, ignore_errors=True)
                there = _open(home, corpus)  # made while this process waited for the lock
                if there:
                    return there
                if home.exists():  # no manifest that can be read: not an index that this module made
                    shutil.rmtree(home)
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.tmp-", dir=directory))
            try:
                _build(retriever, corpus, fingerprint, temporary, on_progress)
                try:
                    temporary.rename(home)
                except OSError:
                    if not _open(home, corpus):
                        raise
                    # Another process was quicker, on a file system without locks. Its index is as good as this one.
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"The index of the passages cannot be written to {directory}: {error.strerror or error}. "
            "Free some room, mend the permissions, or choose another folder."
        ) from error
    made = _open(home, corpus)
    if not made:
        raise StoreError(f"The index {home} was removed while it was made. Start again.")
    return replace(made, built=True)


def _build(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    fingerprint: str,
    home: Path,
    on_progress: Callable[[int], None] | None,
) -> None:
    ended = False

    def passages() -> Iterator[Passage]:
        nonlocal ended
        for passage in corpus:
            yield passage
            if on_progress and corpus.good % PROGRESS_EVERY == 0:
                on_progress(corpus.good)
        ended = True

    folder = home / "index"
    folder.mkdir()
    count = retriever.hook.index(passages=passages(), directory=folder)
    who = f"The retriever {retriever.name} {retriever.version}"
    if not ended:
        raise PluginError(f"{who} stopped after {corpus.good:,} passages, before the end of the corpus.")
    if count != corpus.good:
        raise PluginError(f"{who} was given {corpus.good:,} passages and says that its index holds {count!r}.")
    if corpus.fingerprint() != fingerprint:
        raise DataError("The passage library was changed while it was indexed. Start again.")
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
    # The corpus tells of the reading that this index was made from, as if it had just been read.
    corpus.good, corpus.bad, corpus.faults = passages, bad, faults
    return Index(folder, passages, built=False)


def _name(retriever: Plugin[RetrieverSpec], fingerprint: str) -> str:
    parts = [fingerprint, retriever.name, retriever.version]
    # Options and overrides can change what an index holds.
    if retriever.ref.options or retriever.ref.overrides:
        made_with = json.dumps([_options(retriever), retriever.ref.overrides], sort_keys=True)
        parts.append(blake2b(made_with.encode(), digest_size=4).hexdigest())
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
