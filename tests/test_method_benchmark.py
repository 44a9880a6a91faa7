"""The comparison of rules of selection in `benchmarks/method.py`: its machinery and its statistics."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark_modules import BENCHMARKS, import_benchmark

report = import_benchmark("method_report")


def make_record(bits: str, **values: float) -> dict[str, object]:
    return {"right": f"{int('1' + bits, 2):x}", **values}


def test_the_difference_is_paired_by_seed_and_item() -> None:
    records = {
        json.dumps(["w", "b", seed, rule, None]): make_record(bits)
        for seed in (0, 1, 2)
        for rule, bits in (("potential", "0011"), ("filtered", "0111"))
    }
    records[json.dumps(["w", "b", 9, "filtered", None])] = make_record("1111")  # no partner
    pairs = report.Table(records).pair("w", "filtered")
    assert pairs["b"].tolist() == [[0, 1, 0, 0]] * 3
    difference = report.bootstrap([pairs])
    assert difference.mean == 25
    assert difference.low < 25 < difference.high
    assert difference.seeds == 3


def test_new_seeds_are_kept_apart() -> None:
    records = {
        json.dumps(["w", "b", seed, rule, None]): make_record(bits)
        for seed, bits in ((9, "0011"), (10, "0111"))
        for rule in ("potential", report.THIRD)
    }
    assert [list(rules) for rules in report.Table(records).runs["w"]["b"].values()] == [[9], [9]]
    assert [list(rules) for rules in report.Table(records, range(10, 20)).runs["w"]["b"].values()] == [[10], [10]]


def test_a_clear_difference_is_found_and_none_is_not() -> None:
    rng = np.random.default_rng(1)
    clear = {base: (rng.random((10, 300)) < 0.1).astype(int) for base in "abc"}
    none = {base: rng.integers(-1, 2, (10, 300)) for base in "abc"}
    found = report.bootstrap([clear])
    assert found.low > 5
    assert found.p < 0.001
    assert report.bootstrap([none]).low < 0 < report.bootstrap([none]).high
    assert report.bootstrap([clear, {}]) is None, "a world without results gives no mean over the worlds"


def test_the_correction_is_that_of_holm() -> None:
    assert report.adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.slow
def test_the_short_form_runs_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    command = [sys.executable, str(BENCHMARKS / "method.py"), "--short", "--results", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    whole = path.read_bytes()
    base, potential, chosen_by_chance = map(json.loads, whole.splitlines())
    assert base["accuracy"] < potential["accuracy"]
    assert potential["steps"] == chosen_by_chance["steps"] == 40
    assert potential["live"] > chosen_by_chance["live"]
    assert potential["base_answers"] - chosen_by_chance["base_answers"] == 64 * potential["pool"]
    path.write_bytes(whole[: whole.rindex(b'"steps"')])  # as a kill leaves it, in the middle of the last line
    subprocess.run(command, check=True, capture_output=True)
    again = list(map(json.loads, path.read_bytes().splitlines()))
    for record in (again[-1], chosen_by_chance):
        record.pop("cpu_seconds")
    assert again[-1] == chosen_by_chance, "a repeated training gives the same model"
    assert path.read_bytes().startswith(whole[: whole.rindex(b"\n", 0, -1) + 1])
