from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsrl.plugins.specs import hookimpl
from dsrl.teaching.calls import Route, TeacherCall
from dsrl.teaching.ledger import _identify
from dsrl.teaching.limiter import ConcurrencyLimiter
from dsrl.types import Completion, Message, Price, Request


class Silent:
    """Says nothing about itself."""

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        raise AssertionError

    @hookimpl
    def price(self) -> Price | None:
        return None


class OnServer(Silent):
    """Says which server it asks."""

    @hookimpl
    def identity(self) -> str:
        return "http://server"


@pytest.mark.parametrize(("teacher", "server"), [(Silent, ""), (OnServer, "http://server")])
def test_the_server_of_a_route_is_what_the_teacher_says_about_itself(bound: Any, teacher: type, server: str) -> None:
    plugin = bound("teacher", teacher)
    assert Route(plugin, _identify(plugin), ConcurrencyLimiter(1)).server == server


def test_a_call_holds_no_money_and_is_not_sent_at_first(bound: Any) -> None:
    plugin = bound("teacher", Silent)
    request = Request("write", "m", (Message("user", "Write."),), 0.7, 100)
    call = TeacherCall(Route(plugin, _identify(plugin), ConcurrencyLimiter(1)), request, "key", None)
    assert (call.hold, call.began) == (None, 0.0)
    sent = replace(call, began=5.0)
    assert (call.began, sent.began, sent.request) == (0.0, 5.0, request), "the record that waits stays as it is"
