"""The fake provider of the torture suite: it keeps its own book and fails at random, as its seed says."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import web

from dsrl.testing.fault_server import Fault, FaultServer, anthropic_error, completion, message, openai_error
from torture.replies import digest_of, prompt_of, reply_to

#: Dollars per million tokens, of a prompt and of a reply; the runs are told the same by --price.
PRICE = (3.0, 15.0)
#: Faults under which the client gets all replies that it is billed for.
DELIVERED = frozenset(
    ["none", "slow", "fewer choices", "half of the usage", "usage as text", "negative usage", "no usage"]
)
#: Faults after which the provider bills a call that gave no reply.
BILLED = frozenset(
    ["500 with usage", "200 with error and usage", "cut in the middle", "cut after the work", "garbage JSON", "late"]
)
FAULTS = (
    "429",
    "429 with Retry-After",
    "500",
    "500 with usage",
    "200 with error and usage",
    "half of the usage",
    "usage as text",
    "negative usage",
    "no usage",
    "cut before the work",
    "cut in the middle",
    "cut after the work",
    "slow",
    "hang",
    "late",
    "redirect",
    "fewer choices",
    "garbage JSON",
    "HTML page",
)
#: Those that end only when the client gives up waiting.
ENDLESS = frozenset(["hang", "late"])


@dataclass(frozen=True)
class Served:
    """A call in the book.

    Attributes:
        call: its number.
        who: the key that it came with; every process of the suite has its own.
        prompt: a number that depends on the prompt and the settings.
        fault: one of ``FAULTS``, or ``none``.
        usd: what it was billed.
        replies: serial numbers of the replies in it.
        began: Unix time of the request.
        delivered: Unix time when the last byte was on its way; None where the client was gone before.
    """

    call: int
    who: str
    prompt: int
    fault: str
    usd: float
    replies: tuple[int, ...]
    began: float
    delivered: float | None


class Provider(FaultServer):
    """Writes every bill and every reply into its book before it answers.

    What a call meets depends on the seed, the prompt and how often that prompt was asked before, and not on the order in
    which calls arrive.

    Args:
        book: its append-only file.
        seed: of faults, bills and delays.
        faults: those that it has.
        rate: share of the calls that meet one.
        delay: seconds that a reply takes at most.

    Attributes:
        quiet: whether it has no faults any more.
        arrived: number of requests by key.
        met: number of faults by name.
    """

    def __init__(self, book: Path, seed: int, faults: Collection[str], rate: float, delay: float) -> None:
        super().__init__()
        self._book = os.open(book, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._seed, self._names, self._rate, self._delay = seed, sorted(faults), rate, delay
        self._serials, self._asked_before = count(), Counter[int]()
        self.quiet = False
        self.arrived: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.stranger = FaultServer()
        self.stranger.any_model = True
        self.stranger.text = lambda body: reply_to(body, next(self._serials))

    def __enter__(self) -> Provider:
        super().__enter__()
        self.stranger.__enter__()
        return self

    def stop(self) -> None:
        super().stop()
        self.stranger.stop()

    async def _text(self, request: web.Request) -> web.StreamResponse:
        body, began = await request.json(), time.time()
        who = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")
        n, most = body.get("n", 1), body.get("max_tokens") or body.get("max_completion_tokens") or 1
        prompt = digest_of(prompt_of(body), most)
        self._asked_before[prompt] += 1
        random = Random(digest_of(self._seed, prompt, self._asked_before[prompt]))
        fault = random.choice(self._names) if self._names and random.random() < self._rate else "none"
        if self.quiet:
            fault = "none"
        if fault == "fewer choices":
            n = max(1, n - 1)
        replies = tuple(next(self._serials) for _ in range(n))
        # Near to what can be at most, so that a budget is short as soon as a bill is booked too low.
        usage = (int(_letters(body) * random.uniform(0.7, 1.0)), n * random.randint(most - most // 4, most))
        billed = fault in DELIVERED | BILLED
        usd = (usage[0] * PRICE[0] + usage[1] * PRICE[1]) / 1e6 if billed else 0.0
        self.met[fault] += 1
        call = self.met.total()
        line = [call, who, prompt, fault, usd, replies if fault in DELIVERED else (), began]
        self._write({"served": line})
        self.arrived[who] += 1
        await asyncio.sleep(random.random() * self._delay + (0.5 if fault == "slow" else 0.0))
        good = _good(request.path, body, [reply_to(body, serial) for serial in replies], usage)
        answer = self._fault(fault, request.path, good, usage, random)
        if request.transport is None:  # the client is gone
            return web.Response()
        if fault not in DELIVERED:
            return await self._send(request, answer, answer.body)
        return await self._deliver(request, call, answer.body)

    async def _deliver(self, request: web.Request, call: int, body: Any) -> web.StreamResponse:
        raw = json.dumps(body).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(raw))})
        try:
            await response.prepare(request)
            await response.write(raw)
            await response.write_eof()
        except ConnectionError:  # the client is gone
            return response
        if request.transport is not None and not request.transport.is_closing():
            self._write({"delivered": call, "at": time.time()})
        return response

    def _fault(self, name: str, path: str, good: Any, usage: tuple[int, int], random: Random) -> Fault:
        anthropic = path.endswith("/messages")
        error = (
            anthropic_error("It failed.", "api_error")
            if anthropic
            else openai_error("It failed.", error_type="server_error")
        )
        used = {"usage": good["usage"]}
        match name:
            case "429":
                return Fault(429, error)
            case "429 with Retry-After":
                return Fault(429, error, {"Retry-After": f"{random.random() * 0.3:.3f}"})
            case "500":
                return Fault(random.choice([500, 502, 503]), error)
            case "500 with usage":
                return Fault(500, {**error, **used})
            case "200 with error and usage":
                return Fault(200, {**error, **used})
            case "cut before the work":
                return Fault(how="cut", body="")
            case "cut in the middle":
                return Fault(how="half", body=good)
            case "cut after the work":
                return Fault(how="lost", body="")
            case "hang":
                return Fault(how="hang", body="")
            case "late":
                return Fault(how="late", body="")
            case "redirect":
                return Fault(307, "", {"Location": self.stranger.root + path})
            case "garbage JSON":
                return Fault(200, json.dumps(good)[: random.randint(1, 60)])
            case "HTML page":
                page = "<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>Try again.</body></html>"
                return Fault(random.choice([200, 502]), page, {"Content-Type": "text/html"})
            case _:
                return Fault(body={**good, "usage": _odd(name, good["usage"])})

    def _write(self, line: Mapping[str, Any]) -> None:
        os.write(self._book, json.dumps(line).encode() + b"\n")


def _letters(body: Any) -> int:
    texts = [block["text"] for block in body.get("system", ())] + [said["content"] for said in body["messages"]]
    return len("".join(texts))


def _good(path: str, body: Any, texts: list[str], usage: tuple[int, int]) -> Any:
    prompt, written = usage
    if path.endswith("/messages"):
        made = message(texts[0], body["model"])
        made["usage"] = {"input_tokens": prompt, "output_tokens": written}
        if body.get("tools"):
            raise NotImplementedError("the fake provider takes output_config; it is never asked by tools")
        return made
    made = completion(texts, body["model"])
    made["usage"] = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
    return made


def _odd(name: str, usage: Mapping[str, int]) -> Any:
    written = "output_tokens" if "output_tokens" in usage else "completion_tokens"
    match name:
        case "half of the usage":
            return {key: value for key, value in usage.items() if key != written}
        case "usage as text":
            return {key: str(value) for key, value in usage.items()}
        case "negative usage":
            return {**usage, written: -usage[written]}
        case "no usage":
            return None
    return usage


def read_book(book: Path) -> list[Served]:
    """Read a provider's book, in the order in which calls came."""
    lines = [json.loads(line) for line in book.read_text().splitlines()]
    delivered = {line["delivered"]: line["at"] for line in lines if "delivered" in line}
    return [
        Served(call, who, prompt, fault, usd, tuple(replies), began, delivered.get(call))
        for call, who, prompt, fault, usd, replies, began in (line["served"] for line in lines if "served" in line)
    ]
