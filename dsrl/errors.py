"""The error model of dsrl.

Two kinds of failure exist, and only two:

* **A mistake that its maker can mend** (a wrong setting, a broken file, a faulty plugin, a refused key): a
  :class:`DsrlError`. Its text says what was wrong, where (file:line, row, setting), and what to do. The command line
  prints it without a traceback and exits with :attr:`DsrlError.exit_code`. Nothing that was paid for is lost.
* **A fault of dsrl**: any other exception. It reaches the user with its traceback, because it is ours to mend.

A fault of *one row* (a reply that cannot be read, a request that the provider refuses) is neither: the row is dropped
with a reason, the reason is counted, and the run goes on. See :class:`RowRefused`.

Exit codes: 0 done, 1 a :class:`DsrlError`, 2 wrong usage or settings (as click does), 128 + signal stopped
by a signal (130: Ctrl-C, 143: SIGTERM, 129: SIGHUP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsrl.types import Rate, Usage


class DsrlError(Exception):
    """A mistake that the user or a plugin author can mend; shown as a sentence, without traceback."""

    exit_code = 1


class SettingsError(DsrlError):
    """A setting, a flag or a settings file is wrong."""

    exit_code = 2


class DataError(DsrlError):
    """A file that was given as input is missing, empty or broken; names file and line."""


class PluginError(DsrlError):
    """A plugin is unknown, clashes, cannot be imported or breaks its contract; names the distribution."""


class StoreError(DsrlError):
    """A run folder or database cannot be used: locked, no room, no permission, damaged, another version."""


class TeacherError(DsrlError):
    """A teacher cannot go on at all: bad key, no such model, no connection. Stops the run; it can be resumed.

    Attributes:
        usage: what the failed call was billed for; None when the provider did not say.
        unknown: whether the call may have been billed and nobody can say how much.
    """

    def __init__(self, message: str = "", usage: Usage | None = None, unknown: bool = False) -> None:
        super().__init__(message)
        self.usage = usage
        self.unknown = unknown


class BudgetReached(TeacherError):
    """The next call may cost more than is left of ``--budget``. The road goes on with what is paid for."""


class RowRefused(Exception):
    """The teacher refuses this one request (content filter, context too long): the row is dropped, the run goes on.

    Attributes:
        reason: a short snake_case word that is counted with the dropped rows, e.g. ``content_filter``.
        usage: what the refusal was billed for; None when it cost nothing.
        unknown: whether the refusal may have been billed and nobody can say how much.
    """

    def __init__(self, reason: str, message: str = "", usage: Usage | None = None, unknown: bool = False) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.usage = usage
        self.unknown = unknown


class TransientError(Exception):
    """The call failed in a way that is worth repeating (time-out, 429, 5xx, broken connection).

    Attributes:
        retry_after: seconds that the provider asked to wait; None when it did not say.
        rate: what the provider says is left of its limits; None when it did not say.
        usage: what the failed call was billed for; None when it cost nothing.
        limited: whether the provider said that it is asked too much (429, 529): everybody slows down then.
        unknown: whether the call may have been billed and nobody can say how much (it was sent, and the answer was lost on
            its way, or what it says of the bill cannot be read): it counts at its worst case.
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
