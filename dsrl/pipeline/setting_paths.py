"""Paths in settings: a relative path belongs to a folder, and is written again for another one.

A path that a user types belongs to the folder in which the command works. One in a settings file belongs to the folder of
the file, so ``run.toml`` holds from anywhere, and a project that is moved as a whole keeps its runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dsrl.pipeline.task_settings import TASK_SETTINGS, split_owner
from dsrl.plugins.base_models import list_shipped_models
from dsrl.plugins.task_files import is_task_file
from dsrl.settings import Settings

#: Settings whose value can be a path.
_PATHS = ("task", "dataset_path", "demos", "override", "corpus", "base_model", "output_model")


def read_file_paths(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the values of a settings file, with paths that hold in the present folder.

    In the file, a relative path belongs to the folder of the file. A text that does not begin with ``./`` or ``../``, and
    that names nothing there, stays as it is: it may be a name, an id on the hub, or a path in the present folder.

    Args:
        values: setting -> value, as in the file.
        path: the file.
    """
    # Beside a run.toml lie files of the run itself. In one of an earlier version, paths are those that the user typed.
    if (path.parent / "run.db").exists():
        return read_kept_paths(values, path.parent)
    return _move_all(
        values, path.parent, Path.cwd(), lambda name, text: _is_path(name, text, path.parent, is_file=True)
    )


def read_kept_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values of settings that :func:`keep_paths` made for a folder; the paths hold in the present folder."""
    return _move_all(values, folder, Path.cwd(), lambda name, text: _is_explicit(text))


def keep_paths(settings: Settings, folder: Path, indexes: Path) -> Settings:
    """Return settings whose relative paths hold in another folder, and begin with ``./`` or ``../``.

    Args:
        settings: the settings; their paths hold in the present folder.
        folder: the other folder.
        indexes: the folder of the indexes with a name: such a name is no path.
    """
    here = Path.cwd()

    def is_path(name: str, text: str) -> bool:
        is_index = name == "corpus" and os.sep not in text and (indexes / text).is_dir()
        return not is_index and _is_path(name, text, here, is_file=False)

    values = {s.name: getattr(settings, s.name) for s in fields(Settings)}
    return replace(settings, **_move_all(values, here, folder, is_path))


def _move_all(values: Mapping[str, Any], old: Path, new: Path, is_path: Callable[[str, str], bool]) -> dict[str, Any]:
    tasks = values.get("task") or ()
    tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    owners = tasks if len(tasks) > 1 else ()
    moved = dict(values)
    for name in _PATHS:
        if name not in moved:
            continue
        value = moved[name]
        texts = (value,) if isinstance(value, str) else tuple(value)
        results = []
        for text in texts:
            # In a run over several tasks, these values name the task that they are for.
            owner, rest = split_owner(text, "=", owners) if name in TASK_SETTINGS else ("", text)
            is_moved = rest and not os.path.isabs(rest) and is_path(name, rest)
            path = _move(name, rest, old, new) if is_moved else rest
            results.append(f"{owner}={path}" if owner else path)
        moved[name] = results[0] if isinstance(value, str) else tuple(results)
    return moved


def _is_explicit(text: str) -> bool:
    return text.startswith((f".{os.sep}", f"..{os.sep}"))


def _is_path(name: str, text: str, folder: Path, is_file: bool) -> bool:
    """Return whether a text is a path: it may be the name of a task, an index or a model, or an id on the hub."""
    if name == "task":
        return is_task_file(text) and (not is_file or (folder / text).exists())
    if _is_explicit(text) or name == "output_model":
        return True
    is_bare = os.sep not in text
    if is_bare and ((name == "corpus" and is_file) or (name == "base_model" and text in list_shipped_models())):
        return False
    return os.path.exists(folder / text)


def _move(name: str, text: str, old: Path, new: Path) -> str:
    path = old / text
    # The folders may be links. The last part stays, because it can be the name of a model.
    is_plain = path.name not in ("", "..")
    real = os.path.join(os.path.realpath(path.parent), path.name) if is_plain else os.path.realpath(path)
    moved = os.path.relpath(real, os.path.realpath(new))
    # In the present folder a path is shown as people type it, but a bare name of a library or a model is no path.
    is_clear = new == Path.cwd() and (os.sep in moved or name not in ("corpus", "base_model"))
    return moved if is_clear or _is_explicit(moved) else os.path.join(".", moved)
