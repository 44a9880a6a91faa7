"""A step of hatchling: a wheel of dsrl holds the templates of ``dsrl new``. In a checkout dsrl reads them where they are."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TemplatesHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the examples and the licence. An editable installation must not get a second copy, which would grow old."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["examples"] = "dsrl/scaffold/examples"
            build_data["force_include"]["LICENSE"] = "dsrl/scaffold/files/Apache-2.0.txt"
