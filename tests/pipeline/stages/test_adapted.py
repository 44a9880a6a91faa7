from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import RowRefused
from dsrl.pipeline.instructor import SAMPLE_SCHEMA, Definition
from dsrl.pipeline.stages.adapted import rewrite
from dsrl.types import Reply, Sample

SAMPLE = Sample("1-00004", 1, 4, "initial", 'Is "it"?', "$yes", label="yes", passage="p")


@pytest.mark.parametrize(("solved", "kind"), [(True, "harder"), (False, "easier")])
def test_a_solved_sample_is_rewritten_harder_and_an_unsolved_one_easier(
    asking: Any, definition: Definition, solved: bool, kind: Any
) -> None:
    sample, (request,) = asking(
        lambda request, number: '{"input": "Is that?", "output": "no"}',
        lambda i: rewrite(i, definition, SAMPLE, solved, 9),
    )
    assert sample == Sample(f"1-00004{kind[0]}", 1, 4, kind, "Is that?", "no", None, None, "1-00004", "p")
    assert (request.purpose, request.first, request.schema) == ("rewrite", 9, SAMPLE_SCHEMA)
    assert request.variables == {"direction": kind, "input": 'Is "it"?', "domain": ""}
    assert kind in request.messages[0].content
    assert '{"input": "Is \\"it\\"?", "output": "$yes"}' in request.messages[1].content


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("no", "not_json"),
        ("{}", "no_input_or_output"),
        (Reply("{}", "length"), "truncated"),
        (RowRefused("content_filter"), "content_filter"),
    ],
)
def test_a_rewriting_that_is_no_sample_is_dropped_with_its_reason(
    asking: Any, definition: Definition, answer: Any, reason: str
) -> None:
    sample, _ = asking(lambda request, number: answer, lambda i: rewrite(i, definition, SAMPLE, True, 0))
    assert (sample.id, sample.parent, sample.input, sample.dropped) == ("1-00004h", "1-00004", "", reason)
