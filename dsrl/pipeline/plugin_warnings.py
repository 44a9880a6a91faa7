"""Warnings that plugins log: each is shown to the user once, as a note, and stored in the run.

A plugin logs with the logger of its module, as is usual in Python (``logging.getLogger(__name__)``). The log records of
other libraries are left alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dsrl.errors import StoreError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.discovery import find_plugin
from dsrl.storage.run_log import mark_as_note, sanitize

#: After so many different warnings, further ones are only logged.
MOST_WARNINGS = 20
_LONGEST_WARNING = 1000


class PluginWarnings(logging.Handler):
    """Shows warnings of plugins and stores them.

    A warning is shown at once, from any thread. It is stored by the thread that opened the run, because the run's database
    is used by one thread at a time.

    Args:
        show: shows a text to the user.

    Attributes:
        store: stores a text; None as long as the run is not open.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.store: Callable[[str], object] | None = None
        self._show = show
        self._thread = threading.get_ident()
        self._shown: set[str] = set()
        self._unstored: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Show and store the text of a log record, unless it is an error, which the command line prints itself."""
        try:
            text = sanitize(record.getMessage()[:_LONGEST_WARNING])
        except Exception:  # noqa: BLE001 - a record that cannot be formatted
            return
        if text not in self._shown:
            if len(self._shown) == MOST_WARNINGS:
                return
            self._shown.add(text)
            self._unstored.append(text)
            if record.levelno < logging.ERROR:
                self._show(text)
        if record.levelno < logging.ERROR:
            mark_as_note(record)
        if threading.get_ident() == self._thread:
            self.save()

    def save(self) -> None:
        """Store the warnings that are not stored yet, if the run is open. A full disk loses none of the others."""
        if self.store is None:
            return
        with suppress(StoreError):
            while self._unstored:
                self.store(self._unstored[0])
                del self._unstored[0]


@contextmanager
def collect_warnings(plugins: Iterable[Plugin[Any]], show: Callable[[str], None]) -> Iterator[PluginWarnings]:
    """Show the warnings of these plugins for the length of a block.

    Args:
        plugins: the bound plugins of a run.
        show: shows a text to the user.
    """
    handler = PluginWarnings(show)
    loggers = [
        logging.getLogger(package) for package in sorted({_get_package(plugin) for plugin in plugins} - {"dsrl"})
    ]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield handler
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def _get_package(plugin: Plugin[Any]) -> str:
    """Return the name of the outermost package of a plugin's code; the loggers of its modules are below it."""
    _, info = find_plugin(plugin.ref.kind, plugin.ref.name)
    return info.target.partition(":")[0].partition(".")[0]
