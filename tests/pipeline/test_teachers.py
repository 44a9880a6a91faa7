"""The table of teachers: what the settings name becomes one record per purpose."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import DsrlError, TeacherError
from dsrl.pipeline.teachers import resolve_teachers
from dsrl.plugins.binding import load
from dsrl.plugins.specs import hookimpl
from dsrl.settings import resolve
from dsrl.types import Completion, PluginRef, Price, Request


class ListedTeacher:
    """Knows the price of one model, and records what it prepared for."""

    prepared: list[str] = []  # noqa: RUF012 - of one test at a time

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        raise NotImplementedError

    @hookimpl
    def price(self, model: str) -> Price | None:
        return Price(1, 2, batch=0.5) if model == "listed" else None

    @hookimpl
    def max_n(self, model: str) -> int | None:
        return 8 if model == "listed" else None

    @hookimpl
    def prepare(self, model: str) -> None:
        self.prepared.append(model)
        if model == "missing":
            raise TeacherError("there is no model 'missing'")


@pytest.fixture
def resolved(install: Any) -> Any:
    install("teacher", "listed", ListedTeacher)
    ListedTeacher.prepared = []
    task = load(PluginRef("task", "mednli"), "task")
    return lambda prices=(), **settings: resolve_teachers(resolve({"task": "mednli", **settings}), task, dict(prices))


def test_purposes_with_the_same_plugin_share_it_and_each_model_is_prepared_once(resolved: Any) -> None:
    roles = resolved(teacher="listed:listed", solve_teacher="listed:other")
    assert {role.model for role in roles.values()} == {"listed", "other"}
    assert len({id(role.plugin) for role in roles.values()}) == 1
    assert sorted(ListedTeacher.prepared) == ["listed", "other"]
    assert (roles["write"].label, roles["solve"].label) == ("listed:listed", "listed:other")
    assert (roles["write"].price, roles["solve"].price) == (Price(1, 2, batch=0.5), None)
    assert (roles["write"].max_n, roles["solve"].max_n) == (8, 0)
    assert roles["write"].provider == roles["solve"].provider


def test_the_price_of_the_user_replaces_that_of_the_plugin_but_for_batches(resolved: Any) -> None:
    roles = resolved(
        {"listed": Price(3, 4), "other": Price(5, 6)}, teacher="listed:listed", solve_teacher="listed:other"
    )
    assert roles["write"].price == Price(3, 4, batch=0.5)
    assert roles["solve"].price == Price(5, 6)


def test_a_teacher_without_a_model_is_named_by_its_plugin(resolved: Any) -> None:
    role = resolved()["write"]
    assert (role.label, role.priced_name, role.model) == ("procedural", "procedural", "")


def test_a_teacher_that_cannot_work_is_refused(resolved: Any) -> None:
    with pytest.raises(DsrlError, match="no model 'missing'"):
        resolved(teacher="listed:missing")


class TaskTeacher(ListedTeacher):
    """Prepares itself for one task."""

    @hookimpl
    def prepare(self, task: Any, model: str) -> None:
        self.prepared.append(task.name)


def test_a_teacher_that_prepares_for_a_task_is_bound_for_each_and_others_are_shared(install: Any) -> None:
    for name, teacher, is_shared, prepared in (
        ("listed", ListedTeacher, True, ["listed"]),
        ("own", TaskTeacher, False, ["mednli", "gsm8k"]),
    ):
        install("teacher", name, teacher)
        ListedTeacher.prepared = []
        settings = resolve({"task": "mednli", "teacher": f"{name}:listed"})
        first, second = (load(PluginRef("task", task), "task") for task in ("mednli", "gsm8k"))
        roles = resolve_teachers(settings, first, {})
        others = resolve_teachers(settings, second, {}, [roles])
        assert (roles["write"].plugin is others["write"].plugin) is is_shared
        assert others["write"].plugin is others["solve"].plugin
        assert ListedTeacher.prepared == prepared
