"""Every teacher call goes through here: reply store, price, concurrency, repetition.

A reply is on the disk before anyone sees it, under what decides it: teacher, its options, model, messages, sampling
settings, and its number among the answers to the same prompt. It is never asked for twice, by this run or another.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from dsrl.database import connect, storable, told, transaction
from dsrl.errors import PluginError, TeacherError, TransientError
from dsrl.hookspecs import TeacherSpec
from dsrl.plugins import Plugin
from dsrl.records import Completion, Reply, Request, Usage

_VERSION = 1
_SCHEMA = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    purpose TEXT NOT NULL,
    teacher TEXT NOT NULL,
    model TEXT NOT NULL,
    replies INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cost_usd REAL,                      -- NULL: the price is not known
    seconds REAL NOT NULL,
    ended REAL NOT NULL                 -- Unix time
);
CREATE INDEX calls_by_run ON calls (run);
CREATE TABLE replies (
    key TEXT NOT NULL,                  -- of the request, without its number
    number INTEGER NOT NULL,            -- among the answers to the same request
    call INTEGER NOT NULL REFERENCES calls (id),
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    PRIMARY KEY (key, number)
) WITHOUT ROWID
"""
#: A call that keeps failing is given up after so many tries, about two minutes.
TRIES = 8


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run has asked of its teachers: calls made, dollars, and whether every call had a known price."""

    calls: int
    cost_usd: float
    priced: bool


@dataclass(frozen=True, slots=True)
class _Call:
    run: str
    request: Request
    key: str
    replies: tuple[Reply, ...]
    usage: Usage
    cost: float | None
    seconds: float


class Ledger:
    """The one gate to one teacher.

    Args:
        teacher: the bound teacher.
        path: the reply store, shared by the runs of a working folder.
        run: id of the run that calls are booked on.
        concurrency: calls under way at once.
    """

    def __init__(self, teacher: Plugin[TeacherSpec], path: Path, run: str, concurrency: int) -> None:
        self._teacher = teacher
        self._run = run
        self._path = path
        self._reader = connect(path, _SCHEMA, _VERSION, durable=True)
        self._writer = connect(path, _SCHEMA, _VERSION, durable=True)
        self._gate = asyncio.Semaphore(concurrency)
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: list[tuple[_Call, asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def complete(self, request: Request) -> Completion:
        """Give the replies to ``request``, from the store where they are there, else from the teacher.

        Raises:
            TeacherError: the teacher cannot go on, or kept failing.
            RowRefused: the teacher refuses this request.
            StoreError: the reply store cannot be written.
        """
        key = request_key(self._teacher, request)
        wanted = range(request.first, request.first + request.n)
        # Whoever asks the same at the same time waits, and then reads it.
        async with self._asking.setdefault(key, asyncio.Lock()):
            stored = self._stored(key)
            for first, n in _gaps(wanted, stored):
                replies = await self._ask(replace(request, first=first, n=n), key)
                stored.update(zip(range(first, first + n), replies, strict=True))
                # Another process may have stored its own replies to the same: those count, for both.
                stored |= self._stored(key)
        return Completion(tuple(stored[number] for number in wanted))

    def spending(self) -> Spending:
        """What this run has spent, earlier sittings included; nothing is counted twice."""
        with told(self._path):
            return _spending(self._reader, self._run)

    async def close(self) -> None:
        """Write what is under way, let go of the teacher and the store."""
        if self._committing is not None:
            await self._committing
        if self._teacher.answers("aclose"):
            await self._teacher.hook.aclose()
        self._reader.close()
        self._writer.close()

    def _stored(self, key: str) -> dict[int, Reply]:
        with told(self._path):
            rows = self._reader.execute("SELECT number, text, finish_reason FROM replies WHERE key = ?", (key,))
            return {number: Reply(text, reason) for number, text, reason in rows}

    async def _ask(self, request: Request, key: str) -> tuple[Reply, ...]:
        async with self._gate:
            started = time.monotonic()
            completion = await self._tried(request)
            seconds = time.monotonic() - started
        if len(completion.replies) != request.n:
            raise PluginError(
                f"teacher {self._teacher.name!r} of {self._teacher.distribution} gave {len(completion.replies)} replies "
                f"to a request for {request.n}"
            )
        if not all(isinstance(reply, Reply) and isinstance(reply.text, str) for reply in completion.replies):
            raise PluginError(
                f"teacher {self._teacher.name!r} of {self._teacher.distribution} gave a reply that is no text"
            )
        price = self._teacher.hook.price(model=request.model)
        cost = price.cost(completion.usage) if price else None
        replies = tuple(replace(reply, text=storable(reply.text)) for reply in completion.replies)
        await self._commit(_Call(self._run, request, key, replies, completion.usage, cost, seconds))
        return replies

    async def _tried(self, request: Request) -> Completion:
        for attempt in range(1, TRIES + 1):
            try:
                return await self._teacher.hook.complete(request=request)
            except TransientError as error:
                if attempt == TRIES:
                    raise TeacherError(
                        f"teacher {self._teacher.name!r} failed {TRIES} times in a row: {error}. "
                        "Nothing is lost; give the same command again to go on."
                    ) from error
                pause = 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
        raise AssertionError("unreachable")

    async def _commit(self, call: _Call) -> None:
        # Group commit: what arrives while one transaction goes to the disk shares the next.
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting())
        await asyncio.shield(done)

    async def _commit_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await asyncio.to_thread(self._write, [call for call, _ in batch])
                except Exception as error:  # noqa: BLE001 - whoever waits for the reply must learn of it
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                else:
                    for _, done in batch:
                        if not done.done():
                            done.set_result(None)
        finally:
            self._committing = None

    def _write(self, calls: list[_Call]) -> None:
        with transaction(self._writer, self._path) as database:
            for call in calls:
                row = _insert_call(database, call, self._teacher.name)
                database.executemany(
                    "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)",
                    [
                        (call.key, number, row, reply.text, reply.finish_reason)
                        for number, reply in enumerate(call.replies, call.request.first)
                    ],
                )


def spending_of(path: Path, run: str) -> Spending:
    """What a run has spent, without a ledger at hand; nothing where there is no reply store."""
    if not path.is_file():
        return Spending(0, 0.0, True)
    database = connect(path, _SCHEMA, _VERSION, durable=False)
    try:
        with told(path):
            return _spending(database, run)
    finally:
        database.close()


def _spending(database: sqlite3.Connection, run: str) -> Spending:
    row = database.execute(
        "SELECT count(*), total(cost_usd), count(cost_usd) FROM calls WHERE run = ?", (run,)
    ).fetchone()
    return Spending(calls=row[0], cost_usd=row[1], priced=row[0] == row[2])


def request_key(teacher: Plugin[TeacherSpec], request: Request) -> str:
    """Give the SHA-256 of what decides a reply, apart from its number."""
    identity = teacher.hook.identity() if teacher.answers("identity") else ""
    decides: Mapping[str, Any] = {
        "teacher": teacher.name,
        "options": dict(teacher.ref.options),
        "identity": identity,
        "model": request.model,
        "messages": [[message.role, message.content] for message in request.messages],
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def _insert_call(database: sqlite3.Connection, call: _Call, teacher: str) -> int | None:
    return database.execute(
        "INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.run,
            call.request.purpose,
            teacher,
            call.request.model,
            len(call.replies),
            call.usage.prompt_tokens,
            call.usage.completion_tokens,
            call.usage.cached_tokens,
            call.cost,
            call.seconds,
            time.time(),
        ),
    ).lastrowid


def _gaps(wanted: range, stored: Mapping[int, Reply]) -> list[tuple[int, int]]:
    """Give the runs of numbers in ``wanted`` that are not stored, as (first, how many)."""
    gaps: list[tuple[int, int]] = []
    for number in wanted:
        if number in stored:
            continue
        if gaps and sum(gaps[-1]) == number:
            gaps[-1] = (gaps[-1][0], gaps[-1][1] + 1)
        else:
            gaps.append((number, 1))
    return gaps
