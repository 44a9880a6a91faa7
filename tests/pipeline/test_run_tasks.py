"""The tasks of a run with their definitions, demonstrations and domains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from task_sources import YES_NO

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.run_tasks import RunTask, bind_tasks, find_base_model, list_judged
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.testing import SmallTask
from dsrl.types import Example

ALL, OWN = Example("1 + 1", "2"), Example("x = 1", "1")


class Algebra(SmallTask):
    """Has two domains, and demonstrations of its own for one of them."""

    @hookimpl
    def domains(self) -> Sequence[str]:
        return ("algebra", "geometry")

    @hookimpl
    def demos(self, domain: str) -> Sequence[Example]:
        return {"": [ALL], "algebra": [OWN]}.get(domain, [])


class Shared(SmallTask):
    """Has two domains with the same demonstrations; its hook does not take the domain."""

    @hookimpl
    def domains(self) -> Sequence[str]:
        return ("algebra", "geometry")

    @hookimpl
    def demos(self) -> Sequence[Example]:
        return [ALL]


def bind(**settings: Any) -> RunTask:
    (task,) = bind_tasks(resolve({"name": "r", **settings})).values()
    return task


def test_one_task_has_no_name_among_the_samples_and_several_have() -> None:
    assert list(bind_tasks(resolve({"task": "mednli"}))) == [""]
    tasks = bind_tasks(
        resolve({"task": ("mednli", "gsm8k"), "domain": ("gsm8k=money",), "dataset_path": ("mednli=x",)})
    )
    assert [(key, task.name, task.domains, task.dataset_path) for key, task in tasks.items()] == [
        ("mednli", "mednli", (), "x"),
        ("gsm8k", "gsm8k", ("money",), ""),
    ]


def test_a_domain_has_its_own_demonstrations_or_those_of_the_task(install: Any) -> None:
    install("task", "algebra", Algebra)
    task = bind(task="algebra")
    assert task.get_definition("algebra").demos == (OWN,)
    assert task.get_definition("geometry").demos == task.definition.demos == (ALL,)
    assert task.list_pattern_domains() == ["", "algebra"]


def test_demonstrations_that_all_domains_share_have_one_pattern(install: Any) -> None:
    install("task", "shared", Shared)
    task = bind(task="shared")
    assert task.domain_demos == {}
    assert task.list_pattern_domains() == [""]


def test_the_prompt_names_a_domain_only_if_there_are_several(install: Any) -> None:
    install("task", "algebra", Algebra)
    assert bind(task="algebra").get_named_domain("algebra") == "algebra"
    assert bind(task="algebra", domain=("algebra",)).get_named_domain("algebra") == ""
    assert bind(task="mednli").get_named_domain("named by the teacher") == ""


def test_a_file_of_demonstrations_may_name_domains(tmp_path: Path) -> None:
    path = tmp_path / "demos.jsonl"
    rows = [
        {"input": "q", "output": "<answer>neutral</answer>"},
        {"input": "x", "output": "<answer>neutral</answer>", "domain": "fever"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    settings = {"task": "mednli", "demos": str(path)}
    task = bind(**settings, domain=("fever", "asthma"))
    assert [demo.input for demo in task.get_definition("fever").demos] == ["x"]
    assert [demo.input for demo in task.get_definition("asthma").demos] == ["q"]
    path.write_text(json.dumps(rows[1]))
    task = bind(**settings, domain=("fever", "asthma"))
    assert [demo.input for demo in task.get_definition("asthma").demos] == ["x"], "none is without a domain"
    with pytest.raises(SettingsError, match="has the domain 'fever'; the domains are asthma"):
        bind(**settings, domain=("asthma",))
    with pytest.raises(SettingsError, match="the task has no domains; give --domain"):
        bind(**settings)
    path.write_text(json.dumps({**rows[0], "domain": 3}))
    with pytest.raises(DataError, match="the domain is 3, but must be a text"):
        bind(**settings)


def test_tasks_that_name_different_base_models_are_refused(install: Any) -> None:
    for name in ("one", "two"):
        source = YES_NO + f"\n@hookimpl\ndef base_model():\n    return {name!r}\n"
        install("task", name, source)
        assert find_base_model(resolve({"task": name})) == name
    assert find_base_model(resolve({"task": "mednli"})) == ""


class Poem(SmallTask):
    """Is judged."""

    @hookimpl
    def rubric(self) -> str:
        return " It must rhyme. "


def test_the_rubric_is_the_users_or_the_tasks_own(install: Any) -> None:
    install("task", "poem", Poem())
    install("task", "small", SmallTask(), distribution="small")

    def list_rubrics(**settings: Any) -> dict[str, str]:
        return {key: task.rubric for key, task in bind_tasks(resolve(settings)).items()}

    assert list_rubrics(task="poem") == {"": "It must rhyme."}
    assert list_rubrics(task="small") == {"": ""}
    assert list_rubrics(task="poem", rubric="Be brief.") == {"": "Be brief."}
    assert list_rubrics(task=("poem", "small")) == {"poem": "It must rhyme.", "small": ""}
    both = list_rubrics(task=("poem", "small"), rubric=("small=Be brief.",))
    assert both == {"poem": "It must rhyme.", "small": "Be brief."}
    assert list_judged(bind_tasks(resolve({"task": ("poem", "small")}))) == ["poem"]
    with pytest.raises(SettingsError, match="--rubric has no words"):
        list_rubrics(task="poem", rubric=" ")
    with pytest.raises(SettingsError, match="--rubric is given more than once"):
        list_rubrics(task="poem", rubric=("a", "b"))
    with pytest.raises(SettingsError, match=r"--rubric 'Be brief\.': it is not clear which task this is for"):
        list_rubrics(task=("poem", "small"), rubric="Be brief.")
