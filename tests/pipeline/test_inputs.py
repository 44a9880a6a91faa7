"""A changed input is accepted as long as the run has not used it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dsrl.errors import SettingsError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.inputs import INPUTS, record_inputs
from dsrl.storage import STAGES
from dsrl.storage.run_store import RunStore
from dsrl.types import Example


def change(context: RunContext, **fields: object) -> RunContext:
    return replace(context, definition=replace(context.definition, **fields))  # type: ignore[arg-type]


def test_every_input_belongs_to_a_stage_and_has_a_name_of_its_own() -> None:
    assert {each.stage for each in INPUTS} <= set(STAGES)
    assert len({each.name for each in INPUTS}) == len(INPUTS)


def test_a_run_that_has_made_nothing_takes_any_change_without_a_note(
    make_context: Callable[..., RunContext], open_store: RunStore
) -> None:
    context = make_context()
    assert record_inputs(open_store, context) == []
    before = open_store.inputs()
    assert set(before) == {each.name for each in INPUTS}
    assert record_inputs(open_store, change(context, description="another")) == []
    after = open_store.inputs()
    assert {name for name in after if after[name] != before[name]} == {"description"}


def test_a_change_before_its_stage_is_accepted_with_a_note(
    make_context: Callable[..., RunContext], open_store: RunStore
) -> None:
    context = make_context()
    record_inputs(open_store, context)
    open_store.stages.begin(1, "keywords")
    (note,) = record_inputs(open_store, change(context, output_instruction="In words."))
    assert note.startswith("the task's output instruction has changed since this run began; this is accepted")
    assert "'pattern' has not started" in note
    assert record_inputs(open_store, change(context, output_instruction="In words.")) == [], "the change is stored"


def test_a_change_after_its_stage_is_refused_and_nothing_is_stored(
    make_context: Callable[..., RunContext], open_store: RunStore
) -> None:
    context = make_context()
    record_inputs(open_store, context)
    open_store.stages.begin(1, "keywords")
    before = open_store.inputs()
    edited = change(context, demos=(Example("i", "o"),), output_instruction="In words.")
    with pytest.raises(SettingsError) as caught:
        record_inputs(open_store, edited)
    assert "run 'r' cannot continue: the demonstrations have changed since this run began" in str(caught.value)
    assert "output instruction" not in str(caught.value), "this change alone is accepted"
    assert open_store.inputs() == before


def test_the_digest_of_an_input_follows_its_value(make_context: Callable[..., RunContext]) -> None:
    context = make_context()
    (corpus,) = (each for each in INPUTS if each.name == "corpus")
    digest = corpus.compute_digest(context)
    assert len(digest) == 16
    assert corpus.compute_digest(replace(context, corpus_fingerprint="other")) != digest
    assert corpus.compute_digest(change(context, description="another")) == digest
