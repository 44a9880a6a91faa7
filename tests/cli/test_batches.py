from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dsrl.plugins.binding import load
from dsrl.teaching.batches import list_batches
from dsrl.teaching.ledger import CallPolicy, Ledger
from dsrl.types import Message, PluginRef, Request

TEACHER = """
from dsrl import hookimpl
from dsrl.types import BatchState, Price

asked = []

@hookimpl
async def complete(request): ...

@hookimpl
def price(model):
    return Price(1.0, 1.0)

@hookimpl
async def submit_batch(requests):
    return "batch-7"

@hookimpl
async def poll_batch(batch):
    return BatchState("in_progress", 2, 1)

@hookimpl
async def cancel_batch(batch):
    asked.append(batch)
"""


def test_a_batch_is_listed_and_cancelled(dsrl: Any, install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(dsrl("batches", "--json").out) == []
    module = install("teacher", "batcher", TEACHER)
    monkeypatch.setattr("dsrl.teaching.batches.limits.WINDOW", 0.01)

    async def submitted() -> None:
        ledger = Ledger(
            load(PluginRef("teacher", "batcher"), "teacher"), Path(".dsrl/calls.db"), "r", CallPolicy(batch=True)
        )
        request = Request("write", "m", (Message("user", "x"),), 0.0, 9)
        task = asyncio.create_task(ledger.complete(request))
        async with asyncio.timeout(20):
            while not (known := list_batches(Path(".dsrl/calls.db"))) or not known[0].done:
                await asyncio.sleep(0.01)
        task.cancel()
        await ledger.close()

    asyncio.run(submitted())
    (batch,) = json.loads(dsrl("batches", "--json").out)
    assert (batch["provider_id"], batch["status"], batch["done"], batch["requests"]) == ("batch-7", "in_progress", 1, 1)
    assert "batch-7" in dsrl("batches").out
    assert "was asked to cancel the batch batch-7" in dsrl("batches", "--cancel", "batch-7").err
    from importlib import import_module

    assert import_module(module).asked == ["batch-7"]
    wrong = dsrl("batches", "--cancel", "other")
    assert wrong.code == 2
    assert "the unfinished batches are: batch-7" in wrong.err


def test_a_teacher_without_batches_is_told(dsrl: Any, small: Any) -> None:
    outcome = dsrl(*small, "--batch")
    assert outcome.code == 2
    assert "has no batches" in outcome.err
