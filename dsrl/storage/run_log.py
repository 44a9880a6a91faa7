"""``log.txt``: what happened in a run's sittings, with times; the tracebacks of errors.

It is for whoever looks for the cause of an error. Nothing reads it again.
"""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsrl.errors import DsrlError, PluginError
from dsrl.keys import known_keys, mask

LOG_FILE = "log.txt"
#: Logger of the notes that a run tells its user.
NOTES = "dsrl.notes"
#: Bytes of ``log.txt``; it is renamed to ``log.txt.1`` then, and that one is removed.
_LARGEST = 1_000_000
#: Characters of a record. A message may hold what a model or a provider has written.
_LONGEST_RECORD = 20_000

_log = logging.getLogger("dsrl")


def format_record(record: logging.LogRecord) -> str:
    """Give the text of a record: one that is too long is cut in its middle, keys are masked."""
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return bounded(text)


def bounded(text: str) -> str:
    """Cut a text that is too long in its middle, mask keys, remove what a terminal would take for commands."""
    from dsrl.text import printable

    if len(text) > _LONGEST_RECORD:
        half = _LONGEST_RECORD // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return printable(mask(text, *known_keys()))


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname} {record.name}: {format_record(record)}"


class _File(logging.handlers.RotatingFileHandler):
    """Writes to the run's folder as soon as there is one; a log that cannot be written stops nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder / LOG_FILE, maxBytes=_LARGEST, backupCount=1, encoding="utf-8", delay=True, errors="backslashreplace"
        )
        self._folder = folder
        self._early: list[logging.LogRecord] = []
        self.setFormatter(_Lines())

    def emit(self, record: logging.LogRecord) -> None:
        if not self._folder.is_dir():
            self._early = [*self._early[-99:], record]
            return
        early, self._early = self._early, []
        for one in (*early, record):
            super().emit(one)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging gives it
        return


@contextmanager
def run_log(folder: Path) -> Iterator[None]:
    """Log a sitting of a run to ``log.txt`` in its folder: its start and end, notes, warnings, the traceback of an error."""
    handler = _File(folder)
    root = logging.getLogger()
    level = _log.level
    root.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        _log.info("a sitting of run %r starts", folder.name)
        yield
        _log.info("the sitting has ended")
    except KeyboardInterrupt:
        _log.info("the sitting was interrupted")
        raise
    except Exception as error:
        # To the file alone: the command line shows the error itself.
        words = "the sitting has ended with an error"
        fault = (type(error), error, error.__traceback__)
        handler.handle(logging.LogRecord(_log.name, logging.ERROR, __file__, 0, words, (), fault))
        if folder.is_dir() and (isinstance(error, PluginError) or not isinstance(error, DsrlError)):
            error.add_note(f"the traceback is in {folder / LOG_FILE}")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
        _log.setLevel(level)
