"""Which value of a setting belongs to which task."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import SettingsError
from dsrl.pipeline.task_settings import (
    TASK_SETTINGS,
    check_task_settings,
    get_task_options,
    get_task_value,
    get_task_values,
)
from dsrl.settings import Settings, parse_settings, resolve, to_toml

TWO = ("gsm8k", "math")


def test_with_one_task_a_value_is_what_the_user_wrote() -> None:
    settings = resolve({"task": "math", "dataset_path": "math=x.jsonl", "domain": ("a=b",), "task_option": {"x.y": 1}})
    check_task_settings(settings)
    assert get_task_value(settings, "dataset_path", "math") == "math=x.jsonl"
    assert get_task_values(settings, "domain", "math") == ("a=b",)
    assert get_task_options(settings, "math") == {"x.y": 1}
    assert get_task_value(settings, "demos", "math") == ""


def test_with_several_tasks_each_value_names_its_task() -> None:
    settings = resolve(
        {
            "task": TWO,
            "dataset_path": ("math=m.jsonl", "gsm8k=g=1.jsonl"),
            "domain": ("math=algebra", "math=geometry"),
            "task_option": {"math.level": 3, "gsm8k": {"a": 1}, "gsm8k.b": 2},
        }
    )
    check_task_settings(settings)
    assert [get_task_value(settings, "dataset_path", task) for task in TWO] == ["g=1.jsonl", "m.jsonl"]
    assert [get_task_values(settings, "domain", task) for task in TWO] == [(), ("algebra", "geometry")]
    assert [dict(get_task_options(settings, task)) for task in TWO] == [{"a": 1, "b": 2}, {"level": 3}]


def test_the_name_of_one_task_may_begin_with_that_of_another() -> None:
    settings = resolve({"task": ("a", "a.b"), "task_option": {"a.b.c": 1, "a.d": 2}})
    assert dict(get_task_options(settings, "a")) == {"d": 2}
    assert dict(get_task_options(settings, "a.b")) == {"c": 1}


def test_a_task_file_is_named_without_its_folder() -> None:
    settings = resolve(
        {
            "task": ("../mine/task.toml", "math"),
            "demos": ("./task.toml=a.csv", "math=m.csv"),
            "domain": ("task.toml=x=y", "/elsewhere/task.toml=z"),
            "task_option": {"task.toml": {"a": 1}, "mine/task.toml.b": 2, "../task.toml.c": 4, "math.level": 3},
        }
    )
    check_task_settings(settings)
    for task in ("../mine/task.toml", "task.toml"):
        assert get_task_value(settings, "demos", task) == "a.csv"
        assert get_task_values(settings, "domain", task) == ("x=y", "z")
        assert dict(get_task_options(settings, task)) == {"a": 1, "b": 2, "c": 4}
    assert get_task_value(settings, "demos", "math") == "m.csv"
    assert dict(get_task_options(settings, "math")) == {"level": 3}


@pytest.mark.parametrize("value", ["a=b/task.toml=x", "notask.toml=x", "folder/math=x"])
def test_what_only_looks_like_a_task_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"it is not clear .* TASK is one of task\.toml, math"):
        check_task_settings(resolve({"task": ("./task.toml", "math"), "demos": (value,)}))


def test_two_task_files_of_the_same_name_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"task files a/task\.toml and b/task\.toml have the same name"):
        check_task_settings(resolve({"task": ("a/task.toml", "b/task.toml")}))


@pytest.mark.parametrize("name", TASK_SETTINGS)
def test_a_value_without_its_task_is_refused(name: str) -> None:
    flag = "--" + name.replace("_", "-")
    for value in ("x", "gsm8k", "gsm8k=", "other=x"):
        with pytest.raises(
            SettingsError, match=rf"{flag} {value!r}: it is not clear .* write {flag} TASK=VALUE; TASK is one"
        ):
            check_task_settings(resolve({"task": TWO, name: (value,)}))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": ("math", "math")}, "--task math is given twice"),
        ({"task": TWO, "task_option": {"level": 3}}, "--task-option 'level': .* write --task-option TASK.KEY=VALUE"),
        ({"task": TWO, "demos": ("math=a", "math=b")}, "--demos is given more than once for the task 'math'"),
        ({"task": "math", "dataset_path": ("a", "b")}, "--dataset-path is given more than once for the task 'math'"),
    ],
)
def test_what_is_not_clear_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        check_task_settings(resolve(settings))


@pytest.mark.parametrize("task", ["math", ("math",), TWO])
def test_a_settings_file_has_a_text_or_a_list(task: Any) -> None:
    settings = resolve({"task": task, "name": "r"})
    table = to_toml(settings)["task"]["task"]
    assert table == ("math" if settings.task == ("math",) else list(TWO))
    assert parse_settings(f"[task]\ntask = {table!r}", "f") == {"task": settings.task}
    assert Settings(task=settings.task).task == settings.task


def test_the_name_of_a_run_has_all_tasks() -> None:
    one, two = (resolve({"task": task}).name for task in ("math", TWO))
    assert two.startswith("gsm8k-math-")
    assert one.rpartition("-")[0] == "math"
    assert resolve({"task": ("math", "gsm8k")}).name != two
