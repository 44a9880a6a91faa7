from __future__ import annotations

from dsrl_http.json_values import get_count, get_member, make_reply, parse_object

from dsrl import Reply


def test_hostile_numbers_and_shapes() -> None:
    assert [get_count({"a": value}, "a") for value in (3, 3.7, -1, "3", None, True, float("nan"), 1e300)] == [
        3,
        3,
        *[0] * 6,
    ]
    assert get_count([], "a", "b") == 0
    assert get_member({"a": 1}, "a", dict) == {}
    assert get_member(None, "a", str) == ""
    assert parse_object("[" * 100_000) is None
    assert parse_object("9" * 10_000) is None
    assert make_reply("x" * 1_000_001, "stop") == Reply("x" * 1_000_000, "length")
