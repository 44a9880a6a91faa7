"""How long dsrl waits for a provider that fails or asks to wait: one rule for single calls and for batches."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from dsrl.errors import TeacherError, TransientError

#: Failures in a row after which a call is given up, about a minute and a half. A rate limit is not a failure.
TRIES = 8
#: Seconds that all tries of a call and the pauses between them may take together.
PATIENCE = 1800.0
#: Seconds of a pause that the provider did not ask for, at most.
LONGEST_PAUSE = 60.0
#: Waits shorter than this many seconds are not reported to the user.
_SHORTEST_REPORT = 5.0


def read_retry_after(seconds: float | None) -> float:
    """Return the seconds that a provider asks to wait; 0 if it does not say, or says something that is no duration."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:  # NaN is not above 0
        return 0.0
    return float(min(seconds, 1e12))


class WaitReporter:
    """Informs the user of long waits; waits at the same time are reported once.

    Args:
        note: receives the text.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note, self._until = note, 0.0

    def report(self, teacher: str, seconds: float, fault: TransientError) -> None:
        """Report that a wait begins, if it is long.

        Args:
            teacher: name of the teacher.
            seconds: length of the wait.
            fault: why dsrl waits.
        """
        now = time.monotonic()
        if seconds >= _SHORTEST_REPORT and now >= self._until:
            self._until = now + seconds
            if read_retry_after(fault.retry_after):
                self._note(f"teacher {teacher!r} asks to wait {seconds:.0f} s ({fault})")
            else:
                self._note(f"teacher {teacher!r} failed; the next try is in {seconds:.0f} s ({fault})")


class Patience:
    """The tries and the time that one call has left.

    Args:
        teacher: name of the teacher.
        waits: reports long waits to the user.
    """

    def __init__(self, teacher: str, waits: WaitReporter) -> None:
        self._teacher, self._waits = teacher, waits
        self._failures, self._seconds = 0, 0.0

    def get_pause(self, fault: TransientError, seconds: float, longest: float | None = None) -> float:
        """Return the seconds to wait before the next try.

        Args:
            fault: how the last try ended.
            seconds: how long the last try took.
            longest: seconds of a pause that the provider did not ask for, at most; None: :data:`LONGEST_PAUSE`.

        Raises:
            TeacherError: there are no tries left, or no time.
        """
        self._failures += not fault.limited
        retry_after = read_retry_after(fault.retry_after)
        if retry_after:  # at least that long, and not all calls at the same moment
            pause = retry_after * random.uniform(1.0, 1.2)
        else:
            limit = LONGEST_PAUSE if longest is None else longest
            pause = random.uniform(0.0, min(2.0 ** max(self._failures, 1), limit))
        self._seconds += seconds + pause
        if self._failures >= TRIES:
            raise self.make_error(f"failed {self._failures} times in a row", fault)
        if self._seconds > PATIENCE:
            long_wait = f"asks to wait {retry_after:.0f} s, which is too long"
            raise self.make_error(long_wait if retry_after else "gave no answer for too long", fault)
        self._waits.report(self._teacher, pause, fault)
        return pause

    def make_error(self, reason: str, fault: TransientError) -> TeacherError:
        """Return the error of a call that is given up. What its tries were billed for is booked already."""
        return TeacherError(
            f"teacher {self._teacher!r} {reason}: {fault}. No paid reply is lost; run the same command again to continue."
        )
