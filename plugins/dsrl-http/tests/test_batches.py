from __future__ import annotations

import pytest
from dsrl_http.batches import parse_rows

from dsrl import TransientError


def test_rows_have_the_number_in_their_custom_id() -> None:
    lines = [b'{"custom_id": "7", "a": 1}', b"", b'{"custom_id": "token-12"}', b"<html>", b'{"custom_id": "x"}', b"[]"]
    assert [(number, row.get("a")) for number, row in parse_rows(lines, "OpenAI")] == [(7, 1), (12, None)]


def test_another_text_than_results_is_worth_a_retry() -> None:
    with pytest.raises(TransientError, match="OpenAI returned lines that are not results of a batch"):
        list(parse_rows([b"<html>", b"</html>"], "OpenAI"))
    assert list(parse_rows([b"", b"\n"], "OpenAI")) == []
