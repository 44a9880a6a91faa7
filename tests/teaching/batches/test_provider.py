"""Questions about a batch to its provider, without a run."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

import pytest

from dsrl.errors import PluginError, TeacherError
from dsrl.teaching.batches.provider import cancel_batch, poll_batch
from dsrl.teaching.batches.store import BatchRecord
from dsrl.types import BatchState

TEACHER = """
from dsrl import TransientError, hookimpl
from dsrl.types import BatchState

calls = []


class Batcher:
    def __init__(self, base_url=""):
        self.base_url = base_url

    @hookimpl
    async def complete(self, request): ...

    @hookimpl
    def price(self): ...

    @hookimpl
    async def submit_batch(self, requests): ...

    @hookimpl
    async def poll_batch(self, batch, model):
        calls.append((self.base_url, batch, model))
        if batch == "unreachable":
            raise TransientError("503")
        return BatchState("in_progress", 2, 1)

    @hookimpl
    async def cancel_batch(self, batch):
        calls.append(("cancel", batch))

    @hookimpl
    async def aclose(self):
        calls.append("closed")
"""


@pytest.fixture
def calls(install: Any) -> Any:
    """Install the teacher ``batcher`` and return the list of the calls that it gets."""
    module = install("teacher", "lines", TEACHER, distribution="library")
    install("teacher", "batcher", "", distribution="batcher", value=f"{module}:Batcher")
    return import_module(module).calls


def make_record(provider_id: str, teacher: str = "batcher") -> BatchRecord:
    return BatchRecord(1, provider_id, "run", teacher, "m", {"base_url": "http://server"}, 0.0, "in_progress", 2, 0)


def test_the_teacher_is_bound_with_the_options_of_the_batch_and_closed(calls: list[Any]) -> None:
    assert asyncio.run(poll_batch(make_record("b7"))) == BatchState("in_progress", 2, 1)
    assert calls == [("http://server", "b7", "m"), "closed"]


def test_a_batch_is_cancelled_by_the_id_of_the_provider(calls: list[Any]) -> None:
    asyncio.run(cancel_batch(make_record("b7")))
    assert calls == [("cancel", "b7"), "closed"]


def test_a_provider_that_cannot_be_reached_is_an_error_with_the_name_of_the_teacher(calls: list[Any]) -> None:
    with pytest.raises(TeacherError, match="teacher 'batcher' cannot be reached now: 503"):
        asyncio.run(poll_batch(make_record("unreachable")))
    assert calls[-1] == "closed"


def test_a_batch_of_a_teacher_that_is_no_longer_installed_is_an_error() -> None:
    with pytest.raises(PluginError, match="no teacher 'removed' is installed"):
        asyncio.run(poll_batch(make_record("b7", teacher="removed")))
