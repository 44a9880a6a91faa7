"""The calls inside the engine's process: which requests they become, and which texts come out. Nothing here needs vLLM."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsrl import Prompt

#: vLLM takes seeds of 64 bits with a sign, and adds the number of the attempt to them.
_SEED_BITS = 62
#: A lower temperature is greedy for vLLM.
_GREEDY = 1e-5


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request to the engine: ``n`` attempts at a prompt.

    Attributes:
        call: number of the call.
        prompt: place of the prompt in the call.
        tokens: the tokens of the prompt.
        attempts: number of attempts that the engine makes.
        copies: how often the texts are given; 1, or ``n`` where all attempts are the same.
        max_tokens: maximum length of an answer in tokens.
        seed: seed of the first attempt; None for greedy attempts, which need none.
        temperature, top_p: see the hook ``sample``.
        adapter: number of the adapter; 0 for none.
    """

    call: int
    prompt: int
    tokens: Sequence[int]
    attempts: int
    copies: int
    max_tokens: int
    seed: int | None
    temperature: float
    top_p: float
    adapter: int

    @property
    def name(self) -> str:
        """The name of the request in the engine."""
        return f"{self.call}-{self.prompt}"


def make_prompts(message: Mapping[str, Any]) -> list[Prompt]:
    """Make the prompts of a call again."""
    return [Prompt(text, system, is_chat) for text, system, is_chat in message["prompts"]]


def make_requests(
    message: Mapping[str, Any], tokens: Sequence[Sequence[int]], max_tokens: int, adapter: int
) -> Iterator[EngineRequest]:
    """Yield the requests of a call, without those that were answered before the engine was started again.

    An attempt has a seed of its own, which depends on the seed of the call, the tokens of the prompt and the number of the
    attempt only. A prompt that is given twice gets other attempts for the second time.

    Args:
        message: the call.
        tokens: the tokens of its prompts.
        max_tokens: maximum length of an answer that fits into the context.
        adapter: number of the adapter; 0 for none.
    """
    repeats: Counter[bytes] = Counter()
    done = set(message["done"])
    is_greedy = message["temperature"] < _GREEDY
    for place, prompt in enumerate(tokens):
        ids = " ".join(map(str, prompt)).encode()
        digest = hashlib.blake2b(f"{message['seed']}/{repeats[ids]}/".encode() + ids, digest_size=8).digest()
        repeats[ids] += 1
        if place in done:
            continue
        yield EngineRequest(
            call=message["id"],
            prompt=place,
            tokens=prompt,
            attempts=1 if is_greedy else message["n"],
            copies=message["n"] if is_greedy else 1,
            max_tokens=max_tokens,
            seed=None if is_greedy else (int.from_bytes(digest, "big") >> (64 - _SEED_BITS)) + message["first"],
            temperature=0.0 if is_greedy else message["temperature"],
            top_p=message["top_p"],
            adapter=adapter,
        )


class Backlog:
    """Requests that wait for the engine. It is kept full, but gets no more than it can soon work on.

    Args:
        sequences: attempts that the engine works on at once.
    """

    def __init__(self, sequences: int) -> None:
        self._room = 2 * sequences
        self._waiting: deque[EngineRequest] = deque()
        self._running: dict[str, EngineRequest] = {}
        self._attempts = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def add(self, requests: Iterable[EngineRequest]) -> None:
        """Add the requests of a call behind the others."""
        self._waiting.extend(requests)

    def take(self) -> Iterator[EngineRequest]:
        """Yield the requests that the engine has room for."""
        while self._waiting and self._attempts < self._room:
            request = self._waiting.popleft()
            self._attempts += request.attempts
            self._running[request.name] = request
            yield request

    def finish(self, name: str) -> EngineRequest | None:
        """Return a request that the engine has answered; None if its call was cancelled."""
        request = self._running.pop(name, None)
        if request is not None:
            self._attempts -= request.attempts
        return request

    def cancel(self, call: int) -> list[str]:
        """Forget the requests of a call; return the names of those that the engine works on."""
        self._waiting = deque(request for request in self._waiting if request.call != call)
        names = [name for name, request in self._running.items() if request.call == call]
        for name in names:
            self.finish(name)
        return names
