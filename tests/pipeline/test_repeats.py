from __future__ import annotations

from pathlib import Path

import pytest
from evaluated_runs import add_repeat, make_run

from dsrl.pipeline.repeats import read_repeats
from dsrl.storage.evaluations import EvalItem
from dsrl.storage.run_store import RunStore


def test_only_whole_trainings_on_the_same_samples_and_items_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run("one", (True, False, False))
    store = RunStore(Path("runs/one"))
    assert read_repeats(store) == {}
    add_repeat("one", 7, (False, True, True))
    add_repeat("one", 3, (True, True, True))
    add_repeat("one", 4, (True,))
    add_repeat("one", 5, (True, True, True), origin="of other samples")
    add_repeat("one", 6, (True, True, True))
    Path("runs/one/ablations/as-the-run-seed-6/run.db").write_bytes(b"damaged " * 50)
    assert read_repeats(store) == {3: {0: True, 1: True, 2: True}, 7: {0: False, 1: True, 2: True}}
    store.replace_items([EvalItem("another", "yes")])
    assert read_repeats(store) == {}
    store.close()
