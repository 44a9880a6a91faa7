from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from dsrl_tasks.math import DOMAINS, load_dataset, process_label
from dsrl_tasks.math.data import find_domain

from dsrl.errors import DataError

ROW = {"problem": " What is 1 + 1? ", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{2}$."}


def test_jsonl_of_the_usual_form(tmp_path: Path) -> None:
    file = tmp_path / "math.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps({"input": "What?", "output": r"\boxed{3}"}), encoding="utf-8")
    items = list(load_dataset(str(file), "test"))
    assert [(item.input, process_label(item.output)) for item in items] == [("What is 1 + 1?", "2"), ("What?", "3")]


def test_items_know_their_subject(tmp_path: Path) -> None:
    rows = [
        ROW,
        {**ROW, "type": "Counting & Probability"},
        {**ROW, "type": "Level 5"},
        {"problem": "p", "solution": r"\boxed{2}"},
    ]
    rows.append({"input": "What?", "output": r"\boxed{3}", "domain": "geometry"})
    file = tmp_path / "math.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    domains = [item.domain for item in load_dataset(str(file), "test")]
    assert domains == ["algebra", "counting and probability", "", "", "geometry"]


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("Intermediate Algebra", "intermediate algebra"),
        ("counting_and_probability", "counting and probability"),
        (" Number  theory", "number theory"),
        ("calculus", ""),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_a_subject_is_found_in_any_spelling(name: object, domain: str) -> None:
    assert find_domain(name) == domain


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({**ROW, "solution": "It is 2."}, r":1: cannot be read as an item \(the solution has no"),
        ({"problem": "What?"}, ":1: no column 'solution'"),
        ({"question": "What?", "answer": "2"}, ":1: no column 'Input'"),
        ({"problem": 3, "solution": r"\boxed{2}"}, ":1: cannot be read"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, Any], text: str) -> None:
    file = tmp_path / "math.jsonl"
    file.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError, match=text):
        load_dataset(str(file), "test")


def test_the_folder_of_the_original_archive(tmp_path: Path) -> None:
    for subject, numbers in (("algebra", (10, 9)), ("geometry", (1,))):
        folder = tmp_path / "test" / subject
        folder.mkdir(parents=True)
        for number in numbers:
            (folder / f"{number}.json").write_text(
                json.dumps({"problem": f"{subject} {number}", "solution": r"\boxed{1}"}), encoding="utf-8"
            )
    found = list(load_dataset(str(tmp_path), "test"))
    assert [item.domain for item in found] == ["algebra", "algebra", "geometry"]
    items = [item.input for item in found]
    assert items == ["algebra 9", "algebra 10", "geometry 1"]
    assert [item.input for item in load_dataset(str(tmp_path / "test"), "test")] == items
    (tmp_path / "test/algebra/9.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"9\.json: cannot be read"):
        load_dataset(str(tmp_path), "test")


def test_a_folder_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file like algebra/1\.json"):
        load_dataset(str(tmp_path), "test")


def test_the_hub_has_a_configuration_for_each_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_load_dataset(path: str, config: str, split: str) -> list[dict[str, str]]:
        assert (path, split) == ("EleutherAI/hendrycks_math", "train")
        return [{"problem": config, "solution": ROW["solution"]}]

    monkeypatch.setattr(datasets, "load_dataset", fake_load_dataset)
    items = list(load_dataset("EleutherAI/hendrycks_math", "train"))
    assert [item.input for item in items] == [domain.replace(" ", "_") for domain in DOMAINS]
    assert [item.domain for item in items] == list(DOMAINS)


def test_a_hub_that_cannot_be_reached_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_load_dataset(*_: str, split: str) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fake_load_dataset)
    with pytest.raises(DataError, match=r"algebra, cannot be loaded: ConnectionError: no route\. .* local file"):
        load_dataset("EleutherAI/hendrycks_math", "test")


def test_without_a_path_there_is_a_procedural_test_set() -> None:
    assert len(list(load_dataset("", "test"))) == 600
