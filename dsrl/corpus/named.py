"""Indexes with a name: built once, added to, listed and dropped (``dsrl index``), and used in runs (``--corpus NAME``)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from dsrl.corpus.index import (
    Index,
    OnProgress,
    build_part,
    can_add,
    fill_index,
    hold_lock,
    remove_index,
    show_source,
    translate_disk_errors,
)
from dsrl.corpus.lines import printable_path
from dsrl.corpus.manifest import (
    IndexSource,
    Manifest,
    fingerprint_folder,
    make_manifest,
    make_source,
    read_manifest,
    write_manifest,
)
from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, DsrlError, SettingsError, StoreError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import RetrieverSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
#: The names of the indexes that runs make in passing begin with a fingerprint.
_MADE_IN_PASSING = re.compile(r"[0-9a-f]{16}-")


@dataclass(frozen=True, slots=True)
class NamedIndex:
    """A complete index that is used by its name.

    Attributes:
        name: its name.
        home: its folder.
        manifest: what it was made from.
    """

    name: str
    home: Path
    manifest: Manifest

    @property
    def bad(self) -> int:
        """Number of bad lines in its libraries."""
        return sum(source.bad for source in self.manifest.sources)

    @property
    def faults(self) -> list[str]:
        """The first faults of its libraries."""
        return [fault for source in self.manifest.sources for fault in source.faults]

    @property
    def passed_over(self) -> list[str]:
        """The files of its libraries that hold something else."""
        return [file for source in self.manifest.sources for file in source.passed_over]

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the libraries that the index was made from."""
        text = "\n".join(source.fingerprint for source in self.manifest.sources)
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def check_retriever(self, retriever: Plugin[RetrieverSpec]) -> None:
        """Refuse a retriever that did not make this index.

        Raises:
            SettingsError: names the one that did.
        """
        made_by = self.manifest.retriever
        if retriever.name != made_by:
            raise SettingsError(
                f"The index {self.name!r} was made by the retriever {made_by}, and {retriever.name} cannot search it. Give "
                f"--retriever {made_by}, or build an index for {retriever.name}."
            )

    def open(self, retriever: Plugin[RetrieverSpec]) -> Index:
        """Return the index, to be searched by the retriever that made it.

        Raises:
            SettingsError: another retriever made it, or this one with other options.
            StoreError: it is damaged.
        """
        self.check_retriever(retriever)
        folder = self.home / "index"
        if (
            retriever.implements("count")
            and (count := retriever.hook.count(directory=folder)) != self.manifest.passages
        ):
            raise StoreError(
                f"The index {self.name!r} holds {count:,} passages, and should hold {self.manifest.passages:,}: it is "
                "damaged. Drop it (dsrl index drop) and build it again."
            )
        return Index(folder, self.manifest.passages, is_new=False)

    def list_changes(self) -> list[str]:
        """Return a sentence for each library that is not any more what it was when the index was made.

        A library that is not there any more is none of them: the index holds its texts.
        """
        changes = []
        for source in self.manifest.sources:
            if not all(Path(path).exists() for path in source.paths):
                continue
            paths = ", ".join(source.paths)
            try:
                is_same = source.take_fingerprint() == source.fingerprint
            except DataError as error:
                changes.append(f"the library {paths} of the index {self.name!r} cannot be read any more ({error})")
                continue
            if not is_same:
                changes.append(
                    f"the library {paths} has changed since the index {self.name!r} was made; the index has the passages "
                    "of before (`dsrl index build --replace` makes it again)"
                )
        return changes


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index in the folder of all indexes, whatever its state.

    Attributes:
        name: the name, as ``dsrl index`` takes it.
        home: its folder.
        state: ``complete``, ``unfinished``, or why it cannot be used.
        manifest: what it was made from; None if that cannot be read.
    """

    name: str
    home: Path
    state: str
    manifest: Manifest | None


def check_name(name: str) -> None:
    """Refuse a name that an index cannot have.

    Raises:
        SettingsError: says what a name is made of.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be the name of an index: it takes letters, digits, dots, dashes and underscores, at most 100, "
            "a letter or a digit first."
        )
    if _MADE_IN_PASSING.match(name):
        raise SettingsError(f"{name!r} looks like the name of an index that a run makes in passing. Give another one.")


def find_named(directory: Path, name: str) -> NamedIndex | None:
    """Return the index of this name; None if there is none.

    Args:
        directory: the folder of all indexes.
        name: what the user typed; it may be a path.

    Raises:
        StoreError: the index is not complete, or a newer version of dsrl made it.
    """
    if not _NAME.fullmatch(name):
        return None
    home = directory / name
    manifest = read_manifest(home)
    if manifest is None:
        part = read_manifest(directory / f".{name}.part")
        if part is not None and part.name:
            raise StoreError(
                f"The index {name!r} is not finished, or is being built. Wait, or go on with it: {_describe_build(part)}."
            )
        return None
    if manifest.adding is not None:
        paths = " ".join(manifest.adding.paths)
        raise StoreError(
            f"The index {name!r} is being added to, or that was interrupted. Wait, or go on: dsrl index add {name} {paths}"
        )
    return NamedIndex(name, home, manifest)


def open_named(directory: Path, name: str) -> NamedIndex:
    """Return the index of this name.

    Raises:
        SettingsError: there is none; the text lists those that there are.
        StoreError: see :func:`find_named`.
    """
    index = find_named(directory, name)
    if index is None:
        names = ", ".join(state.name for state in list_indexes(directory))
        raise SettingsError(
            f"There is no index {name!r} in {directory}; there {'are: ' + names if names else 'is none'}. "
            f"`dsrl index build PATH --name {name if _NAME.fullmatch(name) else 'NAME'}` makes one."
        )
    return index


def build_named(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    directory: Path,
    name: str,
    is_replacing: bool = False,
    on_progress: OnProgress | None = None,
) -> Index:
    """Build an index with a name. A build that was interrupted is continued by the same call.

    Args:
        retriever: the bound plugin.
        corpus: the passages.
        directory: the folder of all indexes; it is made if it is missing.
        name: the name.
        is_replacing: replace an index of this name. The old one stays until the new one is complete.
        on_progress: called with the number of passages indexed so far.

    Returns:
        The index; it is not new if the same one was there.

    Raises:
        SettingsError: the name is wrong, or another index has it.
        DataError, PluginError, StoreError: see :func:`dsrl.corpus.index.ensure_index`.
    """
    check_name(name)
    with translate_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with hold_lock(directory, name, wait=False):
            home, part = directory / name, directory / f".{name}.part"
            fingerprint = corpus.fingerprint()
            manifest, old = make_manifest(retriever, name), read_manifest(home)
            if old is not None and not is_replacing:
                if not _is_same(old, manifest, fingerprint):
                    raise SettingsError(
                        f"There is an index {name!r} already, and it is another one: {_describe(old)}. Give another --name, "
                        f"add to it (dsrl index add {name} PATH), or replace it with --replace."
                    )
                show_source(old.sources[0], corpus)
                return Index(home / "index", old.passages, is_new=False)
            build_part(retriever, corpus, manifest, fingerprint, part, on_progress)
            if home.exists():
                outdated = directory / f".{name}.old"
                shutil.rmtree(outdated, ignore_errors=True)
                home.rename(outdated)
                part.rename(home)
                if old is not None and old.retriever == retriever.name:
                    remove_index(retriever, outdated)
                shutil.rmtree(outdated, ignore_errors=True)
            else:
                part.rename(home)
    return Index(home / "index", corpus.good, is_new=True)


def add_to_named(
    retriever: Plugin[RetrieverSpec],
    corpus: Corpus,
    directory: Path,
    name: str,
    on_progress: OnProgress | None = None,
) -> Index:
    """Add a library to an index. If it is interrupted, the same call goes on; until then, runs refuse the index.

    Returns:
        The index; it is not new if it holds this library already.

    Raises:
        SettingsError: there is no such index, or the retriever cannot add.
        DataError, PluginError: see :func:`dsrl.corpus.index.ensure_index`; the index is as it was before.
        StoreError: the index cannot be written.
    """
    with translate_disk_errors(directory), hold_lock(directory, name, wait=False):
        home = directory / name
        manifest = read_manifest(home) if _NAME.fullmatch(name) else None
        if manifest is None:
            open_named(directory, name)  # says what is wrong
            raise StoreError(f"The index {name!r} is being changed by another process.")
        NamedIndex(name, home, manifest).check_retriever(retriever)
        folder = home / "index"
        if any(source.is_link for source in manifest.sources):
            raise SettingsError(
                f"The index {name!r} is a link to one that dsrl did not make, so nothing is added to it."
            )
        if not can_add(retriever):
            paths = " ".join(path for source in manifest.sources for path in source.paths)
            raise SettingsError(
                f"The retriever {retriever.name} cannot add to an index. Build it again from all libraries: dsrl index "
                f"build {paths} {' '.join(map(str, corpus.paths))} --name {name} --retriever {retriever.name} --replace"
            )
        fingerprint = corpus.fingerprint()
        same = [source for source in manifest.sources if source.fingerprint == fingerprint]
        if same and manifest.adding is None:
            show_source(same[0], corpus)
            return Index(folder, manifest.passages, is_new=False)
        if manifest.adding is not None and manifest.adding.fingerprint != fingerprint:
            _take_back(retriever, home, manifest)  # another library was half added
        begun = manifest.begin(make_source(corpus, fingerprint))
        write_manifest(home, begun)
        try:
            mark = f"@{len(manifest.sources) + 1}"
            fill_index(retriever, corpus, fingerprint, folder, manifest.passages, on_progress, mark)
        except StoreError:
            raise  # a full disk: the same command goes on
        except DsrlError:
            _take_back(retriever, home, manifest)
            raise
        done = begun.finish(corpus)
        write_manifest(home, done)
    return Index(folder, done.passages, is_new=True)


def link_named(retriever: Plugin[RetrieverSpec], source: Path, directory: Path, name: str) -> Index:
    """Give a name to an index that the engine's own tools have made. It stays where it is.

    Args:
        retriever: the bound plugin.
        source: the index.
        directory: the folder of all indexes; it is made if it is missing.
        name: the name.

    Raises:
        SettingsError: the name is wrong or in use, or the retriever has no such indexes.
        DataError: ``source`` cannot be read.
        StoreError: the retriever cannot search it, or the folder cannot be written.
    """
    check_name(name)
    if not retriever.implements("link"):
        raise SettingsError(
            f"The retriever {retriever.name} cannot search indexes that other programs have made. Build one: "
            f"dsrl index build PATH --name {name} --retriever {retriever.name}"
        )
    fingerprint = fingerprint_folder(source)
    with translate_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with hold_lock(directory, name, wait=False):
            home, part = directory / name, directory / f".{name}.part"
            if home.exists():
                raise SettingsError(
                    f"There is an index {name!r} already. Give another --name, or drop it (dsrl index drop)."
                )
            shutil.rmtree(part, ignore_errors=True)
            (part / "index").mkdir(parents=True)
            try:
                passages = retriever.hook.link(source=source, directory=part / "index")
                link = IndexSource((printable_path(source.resolve()),), fingerprint, passages=passages, is_link=True)
                write_manifest(part, replace(make_manifest(retriever, name), sources=(link,)))
                part.rename(home)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return Index(home / "index", passages, is_new=True)


def drop_index(directory: Path, name: str, retriever: Plugin[RetrieverSpec] | None = None) -> None:
    """Remove an index, also one that is unfinished or damaged.

    Args:
        directory: the folder of all indexes.
        name: the name.
        retriever: the plugin that made it, which removes what the index has outside its folder.

    Raises:
        SettingsError: there is none of this name.
        StoreError: a process is changing it, or it cannot be removed.
    """
    folders = [directory / name, *(directory / f".{name}.{end}" for end in ("part", "old"))]
    if not _FOLDER_NAME.fullmatch(name) or not any(folder.is_dir() for folder in folders):
        open_named(directory, name)
        raise SettingsError(f"There is no index {name!r} in {directory}.")
    with translate_disk_errors(directory), hold_lock(directory, name, wait=False):
        for folder in folders:
            if folder.exists():
                if retriever is not None and retriever.implements("drop") and (folder / "index").is_dir():
                    retriever.hook.drop(directory=folder / "index")
                shutil.rmtree(folder)


def list_indexes(directory: Path) -> list[IndexState]:
    """List all indexes by name, also those that runs have made in passing, and those that are unfinished."""
    if not directory.is_dir():
        return []
    states = {}
    for home in sorted(directory.iterdir()):
        is_part = home.name.startswith(".") and home.name.endswith(".part")
        if not home.is_dir() or (home.name.startswith(".") and not is_part):
            continue
        name = home.name.removeprefix(".").removesuffix(".part") if is_part else home.name
        try:
            manifest = read_manifest(home)
            state = "complete" if manifest and not manifest.adding else "unfinished" if manifest else "unreadable"
        except StoreError:
            manifest, state = None, "of a newer version of dsrl"
        if not is_part or name not in states:
            states[name] = IndexState(name, home, state, manifest)
    return sorted(states.values(), key=lambda state: (bool(_MADE_IN_PASSING.match(state.name)), state.name))


def _take_back(retriever: Plugin[RetrieverSpec], home: Path, manifest: Manifest) -> None:
    """Remove what was added to an index beyond the libraries that are completely in it."""
    retriever.hook.index(passages=iter(()), directory=home / "index", existing=manifest.passages)
    write_manifest(home, replace(manifest, adding=None))


def _is_same(old: Manifest, new: Manifest, fingerprint: str) -> bool:
    return (
        [source.fingerprint for source in old.sources] == [fingerprint]
        and old.adding is None
        and (old.retriever, dict(old.options)) == (new.retriever, dict(new.options))
    )


def _describe(manifest: Manifest) -> str:
    libraries = ", ".join(path for source in manifest.sources for path in source.paths)
    return f"{manifest.passages:,} passages of {libraries}, made by {manifest.retriever}"


def _describe_build(manifest: Manifest) -> str:
    paths: Sequence[str] = manifest.adding.paths if manifest.adding else ()
    return f"dsrl index build {' '.join(paths)} --name {manifest.name}"
