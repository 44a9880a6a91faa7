"""From settings to the one record that a run works with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from dsrl.corpus.named import NamedIndex, build_named
from dsrl.corpus.reader import Corpus
from dsrl.errors import DsrlError, PluginError, SettingsError
from dsrl.pipeline.context import resolve_run
from dsrl.pipeline.workspace import Workspace
from dsrl.plugins.binding import load
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.types import PluginRef, Purpose, TrainJob


def resolve_context(stop_after: str = "evaluated", **settings: Any) -> Any:
    return resolve_run(
        resolve({"task": "mednli", "name": "r", **settings}), Workspace(Path("w"), Path("c")), stop_after
    )


def test_everything_that_the_settings_name_is_resolved() -> None:
    context = resolve_context(domain=("fever",), budget=2.0, price=("procedural=1,2",))
    assert Path(context.base_model).is_dir(), "the name 'tiny' is a folder now"
    assert set(context.teachers) == set(get_args(Purpose))
    assert context.teachers["solve"].price.completion == 2
    (task,) = context.tasks.values()
    assert (task.domains, context.policy.budget) == (("fever",), 2.0)
    assert task.definition.output_instruction
    assert (context.folder, context.workspace.reply_store) == (Path("w/r"), Path("c/calls.db"))
    names = [plugin.name for plugin in context.plugins]
    assert {"mednli", "procedural", "bm25", "grpo", "transformers"} <= set(names)


def test_a_rerank_that_would_change_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.pipeline.context.check_encoder", lambda model: None)
    with pytest.raises(SettingsError, match=r"would change nothing: .* the best 10,000 passages, .* the best 200"):
        resolve_context(passage_rerank="model")
    for settings in ({"passages": 100}, {"passages": 500, "passage_rerank_top": 2000}, {"passages": 0}):
        assert resolve_context(passage_rerank="model", **settings).settings.passage_rerank


def test_a_command_includes_the_stages_up_to_its_last() -> None:
    context = resolve_context("verified")
    assert [context.includes(stage) for stage in ("keywords", "verified", "attempted")] == [True, True, False]


def test_an_iteration_starts_from_the_model_of_the_one_before() -> None:
    context = resolve_context(iterations=2, output_model="out")
    assert context.get_start_model(1) == context.base_model
    assert context.get_start_model(2) == str(context.get_output_folder(1)) == "w/r/rounds/1/model"
    assert context.get_output_folder(2) == Path("out")
    assert resolve_context().get_output_folder(1) == Path("w/r/model")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trainer": "nothing"}, "nothing"),
        ({"sampler": "nothing"}, "nothing"),
        ({"corpus": ("missing.jsonl",)}, "missing.jsonl"),
        ({"demos": "missing.json"}, "missing.json"),
        ({"price": ("m",)}, "--price"),
    ],
)
def test_what_cannot_be_resolved_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DsrlError, match=words):
        resolve_context(**settings)


def test_a_wrong_plugin_is_found_before_a_teacher_looks_for_its_key() -> None:
    with pytest.raises(PluginError, match="no retriever 'nothing'"):
        resolve_context(retriever="nothing", teacher="openai:m")


def test_without_passages_no_retriever_is_needed() -> None:
    context = resolve_context(retriever="nothing", passages=0)
    assert context.retriever is None
    assert "retriever" not in {plugin.ref.kind for plugin in context.plugins}


def test_the_corpus_is_an_index_by_name_or_files(tmp_path: Path) -> None:
    library = tmp_path / "library.jsonl"
    library.write_text('{"text": "Fever is a raised temperature."}\n')
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache")
    german = load(PluginRef("retriever", "bm25", {"language": "german"}), "retriever")
    build_named(german, Corpus([library]), workspace.indexes, "wiki")

    def resolve_corpus(*corpus: str, **settings: Any) -> Any:
        return resolve_run(resolve({"task": "mednli", "name": "r", "corpus": corpus, **settings}), workspace)

    context = resolve_corpus("wiki")
    assert isinstance(context.corpus, NamedIndex)
    assert context.retriever is not None
    assert context.retriever.ref.options == {"language": "german"}, "those that the index was made with"
    assert isinstance(resolve_corpus(str(library), passage_length=500).corpus, Corpus)
    assert resolve_corpus(str(library), passage_length=500).corpus.passage_length == 500
    with pytest.raises(SettingsError, match="made for the language german, not french"):
        resolve_corpus("wiki", retriever_option={"language": "french"})
    with pytest.raises(SettingsError, match=r"a run searches one index.*\./wiki"):
        resolve_corpus("wiki", str(library))


class ChoosingTrainer:
    """Says whether it can choose, and does nothing."""

    def __init__(self, can: bool = True) -> None:
        self._can = can

    @hookimpl
    def train(self, job: TrainJob) -> None: ...

    @hookimpl
    def can_choose(self) -> bool:
        return self._can


def test_whether_the_trainer_chooses(make_context: Any, bound: Any) -> None:
    chooses = {"trainer": ChoosingTrainer}
    assert make_context(plugins=chooses, selection="online").is_online
    assert not make_context(plugins=chooses).is_online, "only if the user wants it"
    other = make_context(selection="online")
    assert (other.is_online, other.selection_rule) == (False, "potential")
    refusing = replace(other, trainer=bound("trainer", ChoosingTrainer, can=False))
    assert not refusing.is_online
    assert make_context(selection="easy").selection_rule == "easy"
