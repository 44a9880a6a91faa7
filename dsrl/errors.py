"""The errors of dsrl.

Two kinds of failure end a command:

* **A mistake that somebody can correct** (a wrong setting, a broken file, a faulty plugin, a refused key): a
  :class:`DsrlError`. Its text says what was wrong, where (file:line, row, setting), and what to do. The command line
  prints it without a traceback and exits with :attr:`DsrlError.exit_code`. No paid reply is lost.
* **A bug of dsrl**: any other exception. The user sees it with its traceback.

Two more are raised by teachers and handled inside dsrl, so that the run goes on:

* :class:`RowRefused`: the provider refuses one request. Its row is dropped, and the reason is counted.
* :class:`TransientError`: one call failed for the moment. It is repeated; if it still fails after all repetitions, a
  :class:`TeacherError` ends the command.

A reply that cannot be read is no error: its row is dropped with a reason, too.

Exit codes: 0 success, 1 a :class:`DsrlError`, 2 wrong usage or settings (as in click), 128 + the number of a signal that
stopped the command (130: Ctrl-C, 143: SIGTERM, 129: SIGHUP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsrl.types import Rate, Usage


class DsrlError(Exception):
    """A mistake that the user or the author of a plugin can correct; it is shown as a sentence, without traceback."""

    exit_code = 1


class SettingsError(DsrlError):
    """A setting, a flag or a settings file is wrong."""

    exit_code = 2


class DataError(DsrlError):
    """An input file is missing, empty or broken; the text names file and line."""


class PluginError(DsrlError):
    """A plugin is unknown, ambiguous, cannot be imported or breaks its contract; the text names its distribution."""


class StoreError(DsrlError):
    """A run folder or database cannot be used: it is locked, damaged or of another version, or the disk is full."""


class TeacherError(DsrlError):
    """A teacher cannot work at all: bad key, no such model, no connection. It stops the run, which can be resumed.

    Attributes:
        usage: the usage that the failed call was billed for; None if the provider did not report it.
        unknown: whether the call may have been billed by an unknown amount.
    """

    def __init__(self, message: str = "", usage: Usage | None = None, unknown: bool = False) -> None:
        super().__init__(message)
        self.usage = usage
        self.unknown = unknown


class BudgetReached(TeacherError):
    """The next call may cost more than what remains of ``--budget``. The run goes on with what is paid for."""


class RowRefused(Exception):
    """The provider refuses this one request (content filter, context too long). Its row is dropped, the run goes on.

    Attributes:
        reason: a short snake_case word under which the dropped row is counted, e.g. ``content_filter``.
        usage: the usage that the refusal was billed for; None if it cost nothing.
        unknown: whether the refusal may have been billed by an unknown amount.
    """

    def __init__(self, reason: str, message: str = "", usage: Usage | None = None, unknown: bool = False) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.usage = usage
        self.unknown = unknown


class TransientError(Exception):
    """The call failed in a way that makes a repetition useful (time-out, 429, 5xx, broken connection).

    Attributes:
        retry_after: seconds to wait before the next try, if the provider gave them; else None.
        rate: what remains of the provider's rate limits, if it reported them; else None.
        usage: the usage that the failed call was billed for; None if it cost nothing.
        limited: whether the provider reports too many requests (429, 529); all calls to it slow down then.
        unknown: whether the call may have been billed by an unknown amount (it was sent, but its reply was lost or its
            usage cannot be read). It then counts with the largest amount that it can have cost.
    """

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        rate: Rate | None = None,
        usage: Usage | None = None,
        limited: bool = False,
        unknown: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.rate = rate
        self.usage = usage
        self.limited = limited
        self.unknown = unknown
