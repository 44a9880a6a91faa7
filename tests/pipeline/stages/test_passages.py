from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dsrl.corpus.reader import Corpus
from dsrl.pipeline.progress import SilentProgress
from dsrl.pipeline.runtime import OpenRun
from dsrl.pipeline.stages import passages
from dsrl.pipeline.stages.passages import assign_passages, get_passage, open_index, retrieve_passages
from dsrl.types import Passage

PASSAGES = [Passage(str(number), "text") for number in range(20)]


def test_passages_are_shuffled_and_none_is_dealt_twice() -> None:
    dealt = assign_passages(PASSAGES, 20, Random(0))
    assert dealt != PASSAGES
    assert sorted(dealt, key=lambda passage: int(passage.id)) == PASSAGES
    assert assign_passages(PASSAGES, 20, Random(0)) == dealt
    assert assign_passages(PASSAGES, 20, Random(1)) != dealt


def test_no_more_are_dealt_than_wanted_or_there() -> None:
    assert len(assign_passages(PASSAGES, 5, Random(0))) == 5
    assert len(assign_passages(PASSAGES, 50, Random(0))) == 20
    assert assign_passages([], 5, Random(0)) == []


def test_too_few_passages_go_round_again() -> None:
    assert [get_passage(PASSAGES[:3], number) for number in range(5)] == [*PASSAGES[:3], *PASSAGES[:2]]
    assert get_passage([], 3) is None


def test_a_run_without_passages_reads_no_library(make_run: Callable[..., OpenRun]) -> None:
    run = make_run(passages=0)
    run.store.add_keywords(1, {"": {"medicine": ["medicine"]}})
    assert open_index(run, 1) is None
    retrieve_passages(run, 1, None)
    assert run.store.passages(1) == {}
    assert run.store.stages.is_finished(1, "passages")
    assert not run.context.workspace.indexes.exists()


def test_files_that_hold_no_passages_are_named(make_run: Callable[..., OpenRun], tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "a.jsonl").write_text('{"text": "Fever is a raised temperature."}\n')
    (tmp_path / "library" / "b.jsonl").write_text('{"question": "?"}\n')
    run = make_run()
    run = replace(run, context=replace(run.context, corpus=Corpus([tmp_path / "library"])))
    open_index(run, 1)
    (note,) = [text for _, level, text in run.store.events() if level == "note"]
    assert note.startswith("1 file(s) of the passage library hold no passages: ")
    assert "b.jsonl: no field 'text'" in note


class RecordingProgress(SilentProgress):
    """Records what it is asked to show."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int | None]] = []

    def start(self, stage: str, total: int | None, done: int = 0) -> None:
        self.calls.append(("start", total))

    def advance(self, stage: str, by: int = 1) -> None:
        self.calls.append(("advance", by))


def test_the_number_of_passages_is_estimated_while_they_are_indexed(
    make_run: Callable[..., OpenRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "_ESTIMATE_AFTER", 2_000)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{"word " * 100}{n}"}}\n' for n in range(8_000)))
    shown = []
    for _ in range(2):
        progress = RecordingProgress()
        run = make_run()
        run = replace(run, context=replace(run.context, corpus=Corpus([path])), progress=progress)
        open_index(run, 1)
        shown.append(progress.calls)
    (name, total), *advances = shown[0]
    assert name == "start"
    assert total is not None
    assert 6_000 < total < 8_500
    assert sum(by or 0 for _, by in advances) == 8_000
    assert shown[1] == [("start", None), ("advance", 0)]
