"""How long a provider is waited for that fails or asks to wait: one rule for single calls and for batches."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from dsrl.errors import TeacherError, TransientError

#: A call that keeps failing is given up after so many tries, about a minute and a half. "Too many" is no failure.
TRIES = 8
#: Seconds that tries and the pauses between them may take together.
PATIENCE = 1800.0
#: Seconds of a pause that the provider did not ask for, at most.
LONGEST_PAUSE = 60.0
#: Seconds of a wait that the user is not told of.
_QUIET = 5.0


def asked_wait(seconds: float | None) -> float:
    """Give the seconds that a provider asks to wait; 0 where it does not say, or says what is no number of seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:  # NaN is not above 0
        return 0.0
    return float(min(seconds, 1e12))


class Waits:
    """Tells the user of long waits, once for those that go on at the same time."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note, self._until = note, 0.0

    def tell(self, who: str, seconds: float, fault: TransientError) -> None:
        """Say that a wait begins, where it is long."""
        now = time.monotonic()
        if seconds >= _QUIET and now >= self._until:
            self._until = now + seconds
            asked = "asks to wait" if asked_wait(fault.retry_after) else "is asked again in"
            self._note(f"teacher {who!r} {asked} {seconds:.0f} s ({fault})")


class Patience:
    """What one call may still take.

    Args:
        who: name of the teacher.
        waits: tells the user of long waits.
    """

    def __init__(self, who: str, waits: Waits) -> None:
        self._who, self._waits = who, waits
        self._tries, self._lost = 0, 0.0

    def pause(self, fault: TransientError, seconds: float, longest: float | None = None) -> float:
        """Give the seconds to wait before the next try.

        Args:
            fault: how the last try ended.
            seconds: that it took.
            longest: seconds of a pause that the provider did not ask for, at most; None: :data:`LONGEST_PAUSE`.

        Raises:
            TeacherError: the call is given up.
        """
        self._tries += not fault.limited
        asked = asked_wait(fault.retry_after)
        if asked:  # as long as it asks for, and not all at the same moment
            pause = asked * random.uniform(1.0, 1.2)
        else:
            most = LONGEST_PAUSE if longest is None else longest
            pause = random.uniform(0.0, min(2.0 ** max(self._tries, 1), most))
        self._lost += seconds + pause
        if self._tries >= TRIES:
            raise self.exhausted(f"failed {self._tries} times in a row", fault)
        if self._lost > PATIENCE:
            why = f"asks to wait {asked:.0f} s, which is too long" if asked else "gave no answer for too long"
            raise self.exhausted(why, fault)
        self._waits.tell(self._who, pause, fault)
        return pause

    def exhausted(self, why: str, fault: TransientError) -> TeacherError:
        """Give the error of a call that is given up; what its tries were billed for is booked already."""
        return TeacherError(
            f"teacher {self._who!r} {why}: {fault}. Nothing is lost; give the same command again to go on."
        )
