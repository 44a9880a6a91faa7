"""A call to a teacher on its way: one record for single calls and for requests in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import TeacherSpec
from dsrl.teaching.budget import Hold
from dsrl.teaching.limiter import ConcurrencyLimiter
from dsrl.types import Price, Request


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one teacher.

    Attributes:
        teacher: the bound plugin.
        identity: what makes replies the teacher's own: its name, options, and what it says about itself.
        limiter: limits the calls to its provider.
    """

    teacher: Plugin[TeacherSpec]
    identity: Mapping[str, Any]
    limiter: ConcurrencyLimiter

    @property
    def server(self) -> str:
        """What the teacher says about itself: which server it asks. Empty if it says nothing."""
        return str(self.identity["identity"])


@dataclass(frozen=True, slots=True)
class TeacherCall:
    """A call on its way.

    Attributes:
        route: the teacher that is asked.
        request: the question.
        key: key of the request.
        price: of the model; None if it is unknown.
        hold: money on hold for the call; None if nothing is held.
        began: when the call was sent, in monotonic seconds; 0 before.
    """

    route: Route
    request: Request
    key: str
    price: Price | None
    hold: Hold | None = None
    began: float = 0.0
