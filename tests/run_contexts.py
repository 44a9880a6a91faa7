"""Changes of a run context for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dsrl.pipeline.context import RunContext


def edit_tasks(context: RunContext, definition: Mapping[str, Any] | None = None, **fields: Any) -> RunContext:
    """Return a context with other fields of its tasks, and of their definitions."""
    return replace(
        context,
        tasks={
            key: replace(task, definition=replace(task.definition, **(definition or {})), **fields)
            for key, task in context.tasks.items()
        },
    )
