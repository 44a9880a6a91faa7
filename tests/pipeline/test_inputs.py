"""A changed input is accepted as long as the run has not used it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from run_contexts import edit_tasks

from dsrl.errors import SettingsError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.inputs import INPUTS, list_inputs, record_inputs
from dsrl.storage import STAGES
from dsrl.storage.run_store import RunStore
from dsrl.types import Example


def change(context: RunContext, **fields: object) -> RunContext:
    return edit_tasks(context, fields)


def test_every_input_belongs_to_a_stage_and_has_a_name_of_its_own() -> None:
    assert {each.stage for each in INPUTS} <= set(STAGES)
    assert len({each.name for each in INPUTS}) == len(INPUTS)


def test_a_run_that_has_made_nothing_takes_any_change_without_a_note(
    make_context: Callable[..., RunContext], open_store: RunStore
) -> None:
    context = make_context()
    assert record_inputs(open_store, context) == []
    before = open_store.inputs()
    assert set(before) == {"corpus", *(each.name for each in INPUTS)}
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
    def list_digests(context: RunContext) -> dict[str, str]:
        return {each.name: each.digest for each in list_inputs(context)}

    context = make_context()
    before = list_digests(context)
    assert {len(digest) for digest in before.values()} == {16}
    other_corpus = list_digests(replace(context, corpus_fingerprint="other"))
    assert {name for name in before if other_corpus[name] != before[name]} == {"corpus"}
    other_words = list_digests(change(context, description="another"))
    assert {name for name in before if other_words[name] != before[name]} == {"description"}


def test_an_edited_task_of_several_is_named(make_context: Callable[..., RunContext], open_store: RunStore) -> None:
    (task,) = make_context().tasks.values()
    context = replace(make_context(), tasks={"mednli": task, "gsm8k": task})
    record_inputs(open_store, context)
    assert {"reward:mednli", "reward:gsm8k", "corpus"} < set(open_store.inputs())
    assert set(open_store.definition() or {}) == {"tasks"}
    open_store.stages.begin(1, "keywords")
    edited = replace(task, definition=replace(task.definition, description="another"))
    with pytest.raises(SettingsError, match=r"cannot continue: task gsm8k: the task's description has changed since"):
        record_inputs(open_store, replace(context, tasks={"mednli": task, "gsm8k": edited}))


def test_demonstrations_of_a_domain_are_an_input(make_context: Callable[..., RunContext]) -> None:
    context = make_context()
    (demos,) = (each for each in INPUTS if each.name == "demos")
    (task,) = context.tasks.values()
    own = replace(task, domains=("a", "b"), domain_demos={"a": (Example("i", "o"),)})
    assert demos.compute_digest(own) != demos.compute_digest(task)
    assert demos.compute_digest(replace(own, domain_demos={})) == demos.compute_digest(task), "as in earlier versions"


def test_the_rubric_and_the_judge_are_inputs_of_the_verification(
    make_context: Callable[..., RunContext], open_store: RunStore
) -> None:
    context = make_context()
    judged = edit_tasks(context, rubric="Be brief.")
    record_inputs(open_store, judged)
    assert (open_store.definition() or {})["rubric"] == "Be brief."
    assert (open_store.definition() or {})["judge"] == judged.teachers["judge"].label
    open_store.stages.begin(1, "initial")
    (note,) = record_inputs(open_store, edit_tasks(context, rubric="Be long."))
    assert note.startswith("the rubric has changed since this run began; this is accepted")
    open_store.stages.begin(1, "verified")
    with pytest.raises(SettingsError, match="cannot continue: the rubric has changed since this run began"):
        record_inputs(open_store, judged)
    roles = {purpose: replace(role, model=f"m-{purpose}") for purpose, role in judged.teachers.items()}
    other = edit_tasks(context, rubric="Be long.", teachers=roles)
    with pytest.raises(
        SettingsError, match="cannot continue: the teacher that judges has changed since this run began"
    ):
        record_inputs(open_store, other)


def test_a_run_that_an_earlier_version_began_had_no_rubric(
    make_context: Callable[..., RunContext], open_store: RunStore
) -> None:
    context = make_context()
    known = {each.name: each.digest for each in list_inputs(context) if each.name not in ("rubric", "judge")}
    open_store.keep_inputs(known, {})
    open_store.stages.begin(1, "verified")
    assert record_inputs(open_store, context) == []
    open_store.keep_inputs(known, {})
    words = "cannot continue: the rubric has changed, and the teacher that judges has changed since"
    with pytest.raises(SettingsError, match=words):
        record_inputs(open_store, edit_tasks(context, rubric="Be brief."))
