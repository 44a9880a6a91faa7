"""The passages of a run: an index, made once for each corpus and retriever, and a search in it.

All indexes are in one folder. The name of an index that a run makes in passing holds the fingerprint of the corpus, the
retriever, its version and a hash of its options. An index with the right name is therefore up to date, and an edited library
gets a new index. Indexes with a name from the user are beside them (:mod:`dsrl.corpus.named`)::

    <directory>/<fingerprint>-<retriever>-<version>/
        manifest.json   the corpus and the retriever that it was made from
        index/          the files of the search engine

An index is made in the folder ``.<name>.part``, which is renamed when it is complete. If a build is killed, or the disk is
full, the next one goes on with what is in this folder, if the retriever can add to an index; otherwise it starts again. A
process that needs an index that another one is making waits for it.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from dsrl.corpus.manifest import IndexSource, Manifest, make_manifest, make_source, read_manifest, write_manifest
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, PluginError, SettingsError, StoreError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import RetrieverSpec
from dsrl.storage.files import ProcessLock
from dsrl.types import Passage

#: ``on_progress`` is called each time this many passages were indexed.
PROGRESS_EVERY = 1_000

#: Is called with the number of passages indexed so far.
OnProgress = Callable[[int], None]


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
    on_progress: OnProgress | None = None,
    fingerprint: str = "",
) -> Index:
    """Return the index of ``corpus`` for ``retriever``; make it if it does not exist.

    Args:
        retriever: the bound plugin.
        corpus: the passages. Its ``good``, ``bad``, ``faults`` and ``passed_over`` are set to what was read when the index
            was made, also if an earlier run made it.
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
    with translate_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with hold_lock(directory, name) as is_locked:
            part = directory / f".{name}.part"
            if is_locked:
                # Nobody else holds the lock, so the processes that made these were killed.
                for remains in directory.glob(f".{name}.tmp-*"):
                    shutil.rmtree(remains, ignore_errors=True)
                index = _open(home, corpus)  # another process may have made it while this one waited
                if index:
                    return index
                if home.exists():  # without a readable manifest it is not an index that this module made
                    shutil.rmtree(home)
            else:
                part = Path(tempfile.mkdtemp(prefix=f".{name}.tmp-", dir=directory))
            try:
                build_part(retriever, corpus, make_manifest(retriever), fingerprint, part, on_progress)
                try:
                    part.rename(home)
                except OSError:
                    if not _open(home, corpus):
                        raise
                    # The file system has no locks and another process was faster. Its index is the same as this one.
            finally:
                if not is_locked:
                    shutil.rmtree(part, ignore_errors=True)
    if not _open(home, corpus):
        raise StoreError(f"The index {home} was removed while it was made. Give the same command again.")
    return Index(home / "index", corpus.good, is_new=True)


def can_add(retriever: Plugin[RetrieverSpec]) -> bool:
    """Return whether a retriever can add passages to an index that it has made."""
    return retriever.accepts("index", "existing") and retriever.implements("count")


def build_part(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    manifest: Manifest,
    fingerprint: str,
    part: Path,
    on_progress: OnProgress | None,
) -> None:
    """Make a complete index in the folder ``part``, or go on with what an earlier build of the same index left there.

    If it fails, ``part`` stays if the same command can go on with it.

    Raises:
        DataError, PluginError, StoreError, OSError: see :func:`ensure_index`.
    """
    begun = manifest.begin(make_source(corpus, fingerprint))
    if not (can_add(retriever) and _is_same_build(read_manifest(part), begun)):
        remove_index(retriever, part)
    try:
        part.mkdir(exist_ok=True)
        write_manifest(part, begun)
        fill_index(retriever, corpus, fingerprint, part / "index", 0, on_progress)
        write_manifest(part, begun.finish(corpus))
    except BaseException as error:
        # After a full disk, or a stop by the user, the same command can go on.
        if not (can_add(retriever) and isinstance(error, (OSError, StoreError, KeyboardInterrupt))):
            remove_index(retriever, part)
        raise


def remove_index(retriever: Plugin[RetrieverSpec], home: Path) -> None:
    """Remove the folder of an index, and what the index has outside of it, as far as possible."""
    if retriever.implements("drop") and (home / "index").is_dir():
        with suppress(StoreError):  # a server that cannot be reached must not keep the folder
            retriever.hook.drop(directory=home / "index")
    shutil.rmtree(home, ignore_errors=True)


def fill_index(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    fingerprint: str,
    folder: Path,
    before: int,
    on_progress: OnProgress | None,
    mark: str = "",
) -> None:
    """Pass the passages of a corpus to a retriever, except those that an earlier, interrupted call has already passed.

    Args:
        retriever: the bound plugin.
        corpus: the passages.
        fingerprint: the fingerprint of the corpus.
        folder: the folder of the search engine.
        before: number of passages of other libraries that are in the index.
        on_progress: called with the number of passages of this corpus so far.
        mark: what is appended to the ids, so that they differ from those of the other libraries.

    Raises:
        DataError: the corpus cannot be read, or it was changed meanwhile.
        PluginError: the index does not hold exactly the passages that were read.
        StoreError: the index is damaged, or cannot be written.
    """
    existing = _count_existing(retriever, folder, before)
    at_end = False

    def read_passages() -> Iterator[Passage]:
        nonlocal at_end
        passages: Iterator[Passage] = iter(corpus)
        if mark:
            passages = (Passage(passage.id + mark, passage.text, passage.title) for passage in passages)
        for number, passage in enumerate(passages, before + 1):
            if number > existing:
                yield passage
            if on_progress and corpus.good % PROGRESS_EVERY == 0:
                on_progress(corpus.good)
        at_end = True

    count = retriever.hook.index(passages=read_passages(), directory=folder, existing=existing)
    name = f"The retriever {retriever.name} {retriever.version}"
    if not at_end:
        raise PluginError(f"{name} stopped after {corpus.good:,} passages, before the end of the corpus.")
    if count != before + corpus.good:
        of_which = f", with the {before:,} that were there before," if before else ""
        raise PluginError(f"{name} got {corpus.good:,} passages and reports that its index{of_which} holds {count!r}.")
    if corpus.fingerprint() != fingerprint:
        raise DataError("The passage library was changed while it was indexed. Give the same command again.")
    if on_progress:
        on_progress(corpus.good)


def _count_existing(retriever: Plugin[RetrieverSpec], folder: Path, before: int) -> int:
    """Return how many passages are in an index; empty its folder if there are none."""
    existing = 0
    if can_add(retriever) and folder.is_dir() and any(folder.iterdir()):
        try:
            existing = retriever.hook.count(directory=folder)
        except StoreError:
            if before:
                raise
    if existing < before:
        raise StoreError(
            f"The index in {folder} holds {existing:,} passages, and should hold {before:,}: it is damaged. Drop it "
            "(dsrl index drop) and build it again."
        )
    if not existing:
        if retriever.implements("drop") and folder.is_dir():
            with suppress(StoreError):
                retriever.hook.drop(directory=folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    return existing


def _is_same_build(old: Manifest | None, new: Manifest) -> bool:
    if old is None or old.adding is None or new.adding is None or old.sources:
        return False
    return (old.retriever, old.version, dict(old.options), old.adding.fingerprint) == (
        new.retriever,
        new.version,
        dict(new.options),
        new.adding.fingerprint,
    )


def _open(home: Path, corpus: Corpus) -> Index | None:
    manifest = read_manifest(home)
    folder = home / "index"
    if manifest is None or manifest.adding or len(manifest.sources) != 1 or not folder.is_dir():
        return None
    show_source(manifest.sources[0], corpus)
    return Index(folder, manifest.passages, is_new=False)


def show_source(source: IndexSource, corpus: Corpus) -> None:
    """Let a corpus report what was read when its index was made, as if it had just been read."""
    corpus.good, corpus.bad = source.passages, source.bad
    corpus.faults, corpus.passed_over = list(source.faults), list(source.passed_over)


def _make_name(retriever: Plugin[RetrieverSpec], fingerprint: str) -> str:
    parts = [fingerprint, retriever.name, retriever.version]
    # Options and overrides can change the content of an index.
    if retriever.ref.options or retriever.ref.overrides:
        options = {key: str(value) for key, value in retriever.ref.options.items()}
        plugin = json.dumps([options, retriever.ref.overrides], sort_keys=True)
        parts.append(blake2b(plugin.encode(), digest_size=4).hexdigest())
    return re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(parts))


@contextmanager
def translate_disk_errors(directory: Path) -> Iterator[None]:
    """Raise an error of the disk as a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"The index of the passages cannot be written to {directory}: {error.strerror or error}. "
            "Free some room, correct the permissions, or choose another folder."
        ) from error


@contextmanager
def hold_lock(directory: Path, name: str, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of an index for the length of a block. Yield False if the file system has no locks.

    Args:
        directory: the folder of all indexes.
        name: the name of the index.
        wait: wait until no other process holds the lock.

    Raises:
        StoreError: another process holds the lock, and this one does not wait.
    """
    lock = ProcessLock(directory / f".{name}.lock")
    is_locked = False
    with suppress(OSError):
        is_locked = lock.acquire(wait=wait)
        if not is_locked:
            raise StoreError(
                f"The index {name!r} is being changed by {lock.read_owner()}. Wait until it is finished, and give the same "
                "command again."
            )
    try:
        yield is_locked
    finally:
        lock.release()
