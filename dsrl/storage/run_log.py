"""``log.txt``: what happened while a run was worked on, with times and the tracebacks of errors.

It helps to find the cause of an error. dsrl never reads it.
"""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsrl.errors import DsrlError, PluginError
from dsrl.keys import get_keys, mask

LOG_FILE = "log.txt"
#: Name of the logger for the notes that a run shows to its user.
NOTES = "dsrl.notes"
#: Largest size of ``log.txt``, in bytes. A larger file is renamed to ``log.txt.1``, which replaces an earlier one.
_LARGEST = 1_000_000
#: Most characters of a record. A message may quote a model or a provider.
_LONGEST_RECORD = 20_000

_log = logging.getLogger("dsrl")


def format_record(record: logging.LogRecord) -> str:
    """Return the text of a log record with its traceback, cleaned by :func:`sanitize`."""
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return sanitize(text)


def sanitize(text: str) -> str:
    """Shorten a text that is too long in its middle, mask keys, and remove control sequences of terminals."""
    from dsrl.text import printable

    if len(text) > _LONGEST_RECORD:
        half = _LONGEST_RECORD // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return printable(mask(text, *get_keys()))


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname} {record.name}: {format_record(record)}"


class _File(logging.handlers.RotatingFileHandler):
    """Writes to the run's folder as soon as it exists. A log that cannot be written does not stop the run."""

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
        for each in (*early, record):
            super().emit(each)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging defines this name
        return


@contextmanager
def run_log(folder: Path) -> Iterator[None]:
    """Log the work on a run to ``log.txt`` in its folder: its start and end, notes, warnings, the traceback of an error."""
    handler = _File(folder)
    root = logging.getLogger()
    level = _log.level
    root.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        _log.info("work on run %r starts", folder.name)
        yield
        _log.info("work has ended")
    except KeyboardInterrupt:
        _log.info("work was interrupted")
        raise
    except Exception as error:
        # Only to the file: the command line shows the error itself.
        message = "work has ended with an error"
        exc_info = (type(error), error, error.__traceback__)
        handler.handle(logging.LogRecord(_log.name, logging.ERROR, __file__, 0, message, (), exc_info))
        if folder.is_dir() and (isinstance(error, PluginError) or not isinstance(error, DsrlError)):
            error.add_note(f"the traceback is in {folder / LOG_FILE}")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
        _log.setLevel(level)
