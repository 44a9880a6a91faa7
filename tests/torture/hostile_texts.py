"""Replies in well-formed bodies whose text is hostile: the road must go on, drop rows by reason, and not stand still."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import web

from dsrl.testing.fault_server import FaultServer, completion
from torture.commands import make_folder
from torture.hostile_bodies import run_against
from torture.replies import reply_to

#: Seconds that the command may be silent at most while it has something to ask, on a busy machine.
SILENCE = 10.0
#: Seconds of a core that a sitting may take more than a quiet run.
MORE_CPU = 15.0
#: Seconds that a reply takes.
_DELAY = 0.02

TEXTS = {
    "a fence in a brace": '{t:x"“```json{```  ',
    "opening braces": "{" * 9_000,
    "opening braces, more": "{" * 45_000,
    "braces and quotes": '{"' * 20_000,
    "lists in objects": '[{"input":' * 5_000,
    "half of an object, often": '{"input": "x", ' * 4_000,
    "single quotes": "{'input': '" + "\\'" * 20_000,
    "backslashes": '{"input": "' + "\\" * 40_000,
    "commas": '{"input": "x"' + "," * 40_000 + "}",
    "colons": '{"input"' + ":" * 40_000,
    "comments": '{"input": /* ' * 4_000,
    "fences": "```json\n" * 6_000,
    "dashes": "-" * 40_000,
    "bullets": "- " * 40_000,
    "numbers with dots": "1." * 40_000,
    "spaces": '{"input": "x",' + " " * 190_000 + "}",
    "lone surrogates": '{"input": "\\ud800 x", "output": "\\udfff"} \ud800',
    "NUL": '{"input": "a\\u0000b", "output": "<answer> neutral\\u0000 </answer>"}\x00',
    "200,000 letters": "a" * 200_000,
    "200,000 letters in a sample": json.dumps({"input": "a" * 100_000, "output": "b" * 100_000}),
    "no number": '{"input": NaN, "output": Infinity}',
    "a number of 9,000 digits": '{"input": ' + "9" * 9_000 + ', "output": 1e999}',
    "answer tags": "<answer>" * 20_000,
    "closing tags": "</answer>" * 20_000 + "<answer>",
    "boxes": "\\boxed{" * 20_000,
    "terminal codes": "\x1b[2J\x1b]0;title\x07 {x} [red]",
    "right to left": "\u202e{\u2066\u202d}" * 10_000,
    "combining marks": "e" + "\u0301" * 60_000,
}


class HostileTeacher(FaultServer):
    """Gives a hostile text as keywords, to every second request for a sample and to every second vote."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._hostile, self._turns = text, count()
        #: When requests came and replies went.
        self.times: list[float] = []

    async def _text(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((request.path, {}, body))
        self.times.append(time.monotonic())
        turn = next(self._turns)
        texts = [self._hostile if (turn + i) % 2 == 0 else reply_to(body, turn) for i in range(body.get("n", 1))]
        await asyncio.sleep(_DELAY)
        self.times.append(time.monotonic())
        return web.json_response(completion(texts, body["model"]))

    @property
    def longest_silence(self) -> float:
        """Seconds between two signs of life, from the first request to the last reply."""
        return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)


@dataclass(frozen=True)
class Outlived:
    """What a hostile text did to the command: the first sitting, then the same command once more.

    Attributes:
        codes, stderrs, stopped: of both sittings.
        silence: seconds, see ``HostileTeacher.longest_silence``.
        cpu: seconds of a core, of both sittings.
        samples: how many there are at the end.
    """

    codes: tuple[int, ...]
    stderrs: tuple[str, ...]
    stopped: tuple[str, ...]
    silence: float
    cpu: tuple[float, ...]
    samples: int


def outlive_text(name: str, index: Path) -> Outlived:
    """Make a small run against a teacher that gives a hostile text, then give the same command again."""
    settings: dict[str, Any] = {"samples": 8, "votes": 3, "concurrency": 4}
    with HostileTeacher(TEXTS[name]) as server, tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        folder = make_folder(Path(temporary) / "work", index)
        first = run_against(server, folder, settings, key="first")
        silence = server.longest_silence
        again = run_against(server, folder, settings, key="again")
        samples = _count_samples(folder)
    both = (first, again)
    return Outlived(
        tuple(ended.code for ended in both),
        tuple(ended.stderr for ended in both),
        tuple(ended.stopped for ended in both),
        silence,
        tuple(ended.cpu for ended in both),
        samples,
    )


def _count_samples(folder: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(folder / "runs" / "hostile" / "run.db")) as database:
        (samples,) = database.execute("SELECT count(*) FROM samples").fetchone()
    return int(samples)
