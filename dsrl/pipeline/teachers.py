"""The teachers of a run: one record for each purpose, made once from the settings.

The instructor takes the model of a request from this table, and the ledger takes the plugin from it, so they always agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import TaskSpec, TeacherSpec
from dsrl.settings import Settings
from dsrl.teaching.pricing import get_price
from dsrl.types import PluginRef, Price, Purpose


@dataclass(frozen=True, slots=True)
class TeacherRole:
    """The teacher for one purpose.

    Attributes:
        plugin: the bound plugin; purposes with the same plugin and options share it.
        model: the provider's name of the model; empty for a teacher that has only one.
        price: the price of the model; None if it is not known.
        max_n: maximum number of replies per call; 0 if there is no limit.
    """

    plugin: Plugin[TeacherSpec]
    model: str = ""
    price: Price | None = None
    max_n: int = 0

    @property
    def label(self) -> str:
        """The teacher as the user writes it: NAME or NAME:MODEL."""
        return f"{self.plugin.name}:{self.model}".rstrip(":")

    @property
    def priced_name(self) -> str:
        """The name that ``--price`` uses for this teacher: the model, or the plugin if the model has no name."""
        return self.model or self.plugin.name

    @property
    def provider(self) -> str:
        """Plugin and options; roles with the same provider share its limit of calls in flight."""
        return f"{self.plugin.name} {dict(self.plugin.ref.options)}"


#: One teacher for each purpose.
TeacherRoles = Mapping[Purpose, TeacherRole]


def resolve_teachers(
    settings: Settings, task: Plugin[TaskSpec], prices: Mapping[str, Price], others: Sequence[TeacherRoles] = ()
) -> TeacherRoles:
    """Bind the teacher of every purpose, let it prepare itself, and look up its price.

    Args:
        settings: the settings of the run.
        task: the task that the teachers work on.
        prices: the user's prices by model; they replace those of the plugins.
        others: the teachers of other tasks of the run. A teacher that prepares itself for a task is bound again for this
            task; the others are used as they are.

    Raises:
        DsrlError: a plugin or its options are wrong, or a teacher cannot work (no key, no model).
    """
    shared = {id(role.plugin): role.plugin for roles in others for role in roles.values()}
    prepared = [plugin for plugin in shared.values() if not plugin.accepts("prepare", "task")]
    plugins = list(prepared)
    roles: dict[Purpose, TeacherRole] = {}
    for purpose in get_args(Purpose):
        name, model, options = settings.teacher_of(purpose)
        ref = PluginRef("teacher", name, options)
        plugin = next((plugin for plugin in plugins if plugin.ref == ref), None)
        if plugin is None:
            plugin = load(ref, "teacher")
            plugins.append(plugin)
        roles[purpose] = TeacherRole(plugin, model)
    for role in {(id(role.plugin), role.model): role for role in roles.values()}.values():
        if role.plugin.implements("prepare") and not any(role.plugin is plugin for plugin in prepared):
            role.plugin.hook.prepare(task=task, model=role.model)
    return {purpose: _look_up(role, prices) for purpose, role in roles.items()}


def _look_up(role: TeacherRole, prices: Mapping[str, Price]) -> TeacherRole:
    plugin, model = role.plugin, role.model
    max_n = plugin.hook.max_n(model=model) if plugin.implements("max_n") else 0
    return replace(role, price=get_price(plugin, model, prices), max_n=max_n or 0)
