"""dsrl turns a task definition into a better model (Synthetic Data RL, Guo et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "UNREADABLE",
    "AnswerFormat",
    "BatchState",
    "BoundPlugin",
    "Completion",
    "DataError",
    "DatasetInfo",
    "DsrlError",
    "Example",
    "Finding",
    "Message",
    "Passage",
    "PlanResult",
    "PluginError",
    "PluginRef",
    "Price",
    "Prompt",
    "Rate",
    "Reply",
    "Request",
    "Reward",
    "RowRefused",
    "RunResult",
    "SettingsError",
    "Solved",
    "StoreError",
    "TeacherError",
    "TrainItem",
    "TrainJob",
    "TrainStep",
    "TransientError",
    "Usage",
    "Worker",
    "WorkerError",
    "__version__",
    "check_room",
    "compute_reward",
    "compute_rewards",
    "evaluate",
    "get_task",
    "grade",
    "grade_all",
    "hookimpl",
    "list_tasks",
    "load",
    "plan",
    "run",
]

if TYPE_CHECKING:
    from dsrl.answers import AnswerFormat
    from dsrl.api import PlanResult, RunResult, plan, run
    from dsrl.errors import (
        DataError,
        DsrlError,
        PluginError,
        RowRefused,
        SettingsError,
        StoreError,
        TeacherError,
        TransientError,
    )
    from dsrl.plugins.binding import load
    from dsrl.plugins.scoring import compute_reward, compute_rewards, grade, grade_all
    from dsrl.plugins.several_tasks import get_task, list_tasks
    from dsrl.plugins.specs import hookimpl
    from dsrl.storage.disk import check_room
    from dsrl.types import (
        UNREADABLE,
        BatchState,
        BoundPlugin,
        Completion,
        DatasetInfo,
        Example,
        Finding,
        Message,
        Passage,
        PluginRef,
        Price,
        Prompt,
        Rate,
        Reply,
        Request,
        Reward,
        Solved,
        TrainItem,
        TrainJob,
        TrainStep,
        Usage,
    )
    from dsrl.worker import Worker, WorkerError

#: public name -> the module that defines it
_HOMES = {
    "PlanResult": "dsrl.api",
    "RunResult": "dsrl.api",
    "evaluate": "dsrl.api",
    "plan": "dsrl.api",
    "run": "dsrl.api",
    "AnswerFormat": "dsrl.answers",
    "load": "dsrl.plugins.binding",
    "compute_reward": "dsrl.plugins.scoring",
    "compute_rewards": "dsrl.plugins.scoring",
    "grade": "dsrl.plugins.scoring",
    "grade_all": "dsrl.plugins.scoring",
    "hookimpl": "dsrl.plugins.specs",
    "check_room": "dsrl.storage.disk",
    "get_task": "dsrl.plugins.several_tasks",
    "list_tasks": "dsrl.plugins.several_tasks",
    "DataError": "dsrl.errors",
    "DsrlError": "dsrl.errors",
    "PluginError": "dsrl.errors",
    "RowRefused": "dsrl.errors",
    "SettingsError": "dsrl.errors",
    "StoreError": "dsrl.errors",
    "TeacherError": "dsrl.errors",
    "TransientError": "dsrl.errors",
    "BatchState": "dsrl.types",
    "BoundPlugin": "dsrl.types",
    "Completion": "dsrl.types",
    "DatasetInfo": "dsrl.types",
    "Example": "dsrl.types",
    "Finding": "dsrl.types",
    "Message": "dsrl.types",
    "Passage": "dsrl.types",
    "PluginRef": "dsrl.types",
    "Price": "dsrl.types",
    "Prompt": "dsrl.types",
    "Rate": "dsrl.types",
    "Reply": "dsrl.types",
    "Request": "dsrl.types",
    "Reward": "dsrl.types",
    "Solved": "dsrl.types",
    "TrainItem": "dsrl.types",
    "TrainJob": "dsrl.types",
    "TrainStep": "dsrl.types",
    "UNREADABLE": "dsrl.types",
    "Usage": "dsrl.types",
    "Worker": "dsrl.worker",
    "WorkerError": "dsrl.worker",
}


def __getattr__(name: str) -> Any:
    # Public names are imported when they are used, so that `dsrl --help` starts quickly.
    if name not in _HOMES:
        raise AttributeError(f"module 'dsrl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
