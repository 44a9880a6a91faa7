"""The teacher and the sampler keep the contracts of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dsrl.testing import Fault, FaultServer, HttpTeacherContract, RepeatableSamplerContract
from dsrl.testing.fault_server import openai_error


class TestTeacher(HttpTeacherContract):
    plugin = "openai"
    refusals = (
        Fault(400, openai_error("flagged", "content_filter")),
        Fault(400, openai_error("too long", "context_length_exceeded")),
    )


class TestSampler(RepeatableSamplerContract):
    plugin, model = "openai", "owner/model"

    @pytest.fixture
    def options(self) -> Iterator[dict[str, Any]]:
        with FaultServer() as server:
            server.any_model = True
            server.text = lambda body: f"{body['prompt']} yes"
            yield {"base_url": server.url, "served_model": "owner/model=gpt-4o"}
