"""Runs on real passages and real test items; skipped if they are not installed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared/data"


def real(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"the real data {name} is not there (looked for it in {DATA})")
    return DATA / name


def test_samples_rest_on_medquad(dsrl, small):
    outcome = dsrl(*small, "--corpus", real("medquad"), "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["trained_accuracy"] is not None
    from dsrl.storage.run_store import RunStore

    store = RunStore(Path("runs/small"), work=False)
    (passages,) = store.passages(1)[""].values()
    assert len(passages) == 24
    assert len({passage.id for passage in passages}) == 24
    manifest = json.loads(next(Path(".dsrl/index").glob("*/manifest.json")).read_text())
    assert manifest["passages"] == 27_254
    text = {passage.id: _words(passage.text) for passage in passages}
    samples = {sample: _words(sample.input) for sample in store.samples(1) if sample.parent is None}
    # Words of a third of the samples belong to the sentence forms; most samples have another that its passage has too.
    often = {word for word, n in Counter(w for words in samples.values() for w in words).items() if n > 8}
    assert all(sample.passage for sample in samples)
    # A passage may name only things (a drug, a limb) that samples of an easy level are not about.
    grounded = [sample for sample, words in samples.items() if (words - often) & text[sample.passage]]
    assert len(grounded) >= 0.8 * len(samples)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_evaluates_on_real_gsm8k(dsrl, small):
    flags = ["run", "--task", "gsm8k", *small[3:]]
    outcome = dsrl(*flags, "--dataset-path", real("gsm8k/train.jsonl"), "--test-size", "100", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["n_test"] == 100
    # The items are far too hard for the tiny model, and the result shows it.
    assert result["base_accuracy"] < 0.1
    assert result["gain_ci95"][0] < 0
    shown = dsrl("show", "small").out
    assert "no gain is shown" in shown


def test_mednli_in_its_own_form(dsrl, small):
    rows = [
        {"sentence1": "He denies fever.", "sentence2": "The patient has fever.", "gold_label": "contradiction"},
        {"sentence1": "She has cough.", "sentence2": "The patient has cough.", "gold_label": "entailment"},
    ]
    Path("mli_test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    outcome = dsrl(*small, "--dataset-path", "mli_test.jsonl", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["n_test"] == 2
