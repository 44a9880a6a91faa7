from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import DsrlError, RowRefused
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.stages.pattern import MAX_DEMOS, summarise_pattern
from dsrl.types import Example

DEMOS = tuple(Example(f"demo {number};", "x") for number in range(60))


def test_the_teacher_sees_up_to_fifty_demonstrations_and_the_instructions(asking: Any) -> None:
    definition = Definition("DES", "INP", "OUT", DEMOS)
    pattern, (request,) = asking(lambda request, number: " Two words. \n", lambda i: summarise_pattern(i, definition))
    assert pattern == "Two words."
    (message,) = request.messages
    assert all(words in message.content for words in ("DES", "INP", "OUT"))
    assert [f"demo {number};" in message.content for number in (0, MAX_DEMOS - 1, MAX_DEMOS)] == [True, True, False]
    assert request.purpose == "pattern"
    assert len(request.variables["examples"].splitlines()) == MAX_DEMOS == 50


def test_without_demonstrations_there_is_no_pattern_and_no_request(asking: Any, definition: Definition) -> None:
    pattern, requests = asking(lambda request, number: "x", lambda i: summarise_pattern(i, definition))
    assert (pattern, requests) == ("", [])


def test_a_refused_request_is_a_sentence(asking: Any) -> None:
    """Without its pattern the run would be another one than the user asked for."""
    definition = Definition("DES", "INP", "OUT", DEMOS)
    with pytest.raises(DsrlError, match="pattern"):
        asking(lambda request, number: RowRefused("content_filter"), lambda i: summarise_pattern(i, definition))
