from __future__ import annotations

from typing import Any

import pytest

from dsrl.pipeline.json_replies import MAX_LOOSE_JSON, read_json_reply

KEYS = ("reason", "score")


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ('{"reason": "r", "score": 7}', {"reason": "r", "score": 7}),
        ('[{" Reason ": "r", "SCORE": 7}]', {"reason": "r", "score": 7}),
        ('The set {1, 2} is {"a": 1}.\n```json\n{"reason": "r", "score": 7}\n```', {"reason": "r", "score": 7}),
        ("Here: {'reason': 'it\\'s good', 'score': 7}", {"reason": "it's good", "score": 7}),
        (
            '{"reason": "r", "score": 7, "more": [1, {"score": 9}]}',
            {"reason": "r", "score": 7, "more": [1, {"score": 9}]},
        ),
        ("7", None),
        ("[1, 2]", None),
        ("no object", None),
        ("{" * 10_000, None),
    ],
)
def test_the_object_is_found_in_other_text_and_in_almost_json(text: str, record: dict[str, Any] | None) -> None:
    assert (read_json_reply(text, KEYS) or None) == record


def test_almost_json_without_end_is_not_read() -> None:
    text = "{'reason': 'r', 'score': 7}"
    assert read_json_reply(text + " " * MAX_LOOSE_JSON, KEYS) is None
    assert read_json_reply(text, KEYS) == {"reason": "r", "score": 7}
