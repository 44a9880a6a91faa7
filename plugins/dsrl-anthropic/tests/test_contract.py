"""The teacher keeps the contract of teachers."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.testing import Fault, FaultServer, HttpTeacherContract
from dsrl.testing.fault_server import anthropic_error


class TestTeacher(HttpTeacherContract):
    plugin, model = "anthropic", "claude-haiku-4-5"
    refusals = (Fault(400, anthropic_error("prompt is too long: 300000 tokens > 200000 maximum")),)

    @pytest.fixture
    def options(self, server: FaultServer) -> dict[str, Any]:
        return {"base_url": server.root}
