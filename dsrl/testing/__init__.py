"""A test kit for the authors of plugins. It needs the extra: ``pip install "data-synthesis-rl[testing]"``.

A contract class holds the tests that every plugin of a kind must pass. Inherit from it and name your plugin::

    from dsrl.testing import TaskContract

    class TestLease(TaskContract):
        plugin = "lease"
        examples = [("... <answer>yes</answer>", "yes"), ("... <answer>no</answer>", "no")]

The fixtures of :mod:`dsrl.testing.fixtures` install a plugin for one test only, and :mod:`dsrl.testing.fault_server` is a
provider that fails on request.
"""

from __future__ import annotations

import pytest

# The failure of an assertion in a contract shows its values, as in a test module.
pytest.register_assert_rewrite("dsrl.testing.contracts")

from dsrl.testing.contracts.base import PluginContract  # noqa: E402
from dsrl.testing.contracts.batches import BatchLines, BatchTeacherContract  # noqa: E402
from dsrl.testing.contracts.model import ModelContract  # noqa: E402
from dsrl.testing.contracts.retriever import GrowingRetrieverContract, RetrieverContract  # noqa: E402
from dsrl.testing.contracts.sampler import RepeatableSamplerContract, SamplerContract  # noqa: E402
from dsrl.testing.contracts.task import ProceduralTaskContract, TaskContract  # noqa: E402
from dsrl.testing.contracts.teacher import HttpTeacherContract, TeacherContract  # noqa: E402
from dsrl.testing.contracts.trainer import ResumableTrainerContract, TrainerContract  # noqa: E402
from dsrl.testing.fault_server import Fault, FaultServer  # noqa: E402
from dsrl.testing.fixtures import Installer  # noqa: E402
from dsrl.testing.small_task import SmallTask  # noqa: E402

__all__ = [
    "BatchLines",
    "BatchTeacherContract",
    "Fault",
    "FaultServer",
    "GrowingRetrieverContract",
    "HttpTeacherContract",
    "Installer",
    "ModelContract",
    "PluginContract",
    "ProceduralTaskContract",
    "RepeatableSamplerContract",
    "ResumableTrainerContract",
    "RetrieverContract",
    "SamplerContract",
    "SmallTask",
    "TaskContract",
    "TeacherContract",
    "TrainerContract",
]
