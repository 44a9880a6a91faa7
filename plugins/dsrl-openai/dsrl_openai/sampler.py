"""The sampler ``openai``: a base model behind a server that speaks OpenAI's completions (vLLM, llama.cpp, ...)."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePath

from dsrl_http.remote import MOST_CHARACTERS, ProviderError, Remote, part

from dsrl.errors import RowRefused, SettingsError, TeacherError, TransientError
from dsrl.plugins.specs import hookimpl
from dsrl.text import replace_surrogates
from dsrl_openai.connection import positive, server
from dsrl_openai.teacher import named

_FLAG = "--sampler-option"
#: A request that keeps failing is given up after so many tries, about a minute.
TRIES = 7
#: Seconds for the list of models, before a run.
CHECK_SECONDS = 20.0
_MOST_NAMES = 1000
#: What OpenAI says to a key that may ask for completions and not for the list.
_SCOPE = re.compile(r"scope|permission", re.IGNORECASE)

#: Seconds that the pauses between the tries of a request may take together; a server that asks for more is given up.
PATIENCE = 1800.0
#: Seconds of a pause that the user is told of.
_LONG = 30.0

_log = logging.getLogger(__name__)


class OpenAISampler:
    """Samples from a served model by plain prompts, without a chat template; see :class:`dsrl.plugins.specs.SamplerSpec`.

    The server is asked for the model by the name that dsrl has for it: a hub id or a folder, that of the run's trained
    model too when it is evaluated. A server that gives whatever it has under any name makes a run that is worth nothing.

    Args:
        model: a folder or a hub id; dsrl gives it.
        base_url: of the server, e.g. ``http://127.0.0.1:8000/v1``; empty: ``OPENAI_BASE_URL`` or OpenAI itself.
        served_model: ``MODEL=NAME`` where the server has another name for one; ``MODEL`` is dsrl's name or the last part
            of its path.
        api_key_env: environment variable that holds the key, for a server that wants one.
        concurrency: requests under way at once.
        timeout: seconds for one request.
        max_n: completions to ask for in one request at most; 1 for a server that gives one whatever it is asked for.

    Raises:
        SettingsError: an option that cannot be.
    """

    def __init__(
        self,
        model: str,
        base_url: str = "",
        served_model: str = "",
        api_key_env: str = "",
        concurrency: int = 64,
        timeout: float = 600.0,
        max_n: int = 128,
    ) -> None:
        self._model = _served(model, served_model)
        self._max_n = int(positive(max_n, f"{_FLAG} max_n"))
        self._gate_size = int(positive(concurrency, f"{_FLAG} concurrency"))
        self._timeout = positive(timeout, f"{_FLAG} timeout")
        self._server = server(base_url, api_key_env, flag=_FLAG)
        self._shared: tuple[Remote, asyncio.Semaphore] | None = None
        self._users = 0
        self._told_until = 0.0

    @hookimpl
    async def sample(
        self, prompts: Sequence[str], n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[str]]:
        """Give ``n`` completions of each prompt. The seed is told to the server; what it makes of it is its own affair.

        A prompt that is refused as too long, or by a filter, has empty completions.

        Raises:
            TeacherError: the server cannot be used, or kept failing.
        """
        settings = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        async with self._remote() as (remote, gate):
            tasks = [
                asyncio.create_task(self._completions(remote, gate, prompt, n, settings, seed + place * n))
                for place, prompt in enumerate(prompts)
            ]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @hookimpl
    def check(self) -> None:
        """Find out whether the server is there and takes the key, by its list of models, which is free.

        A server without such a list, or one that does not show it, may be good all the same.

        Raises:
            TeacherError: there is no key, no server, or the key is not taken.
        """
        asyncio.run(self._look())

    async def _look(self) -> None:
        remote = self._server.remote(min(self._timeout, CHECK_SECONDS))
        names: list[str] = []
        try:
            async for row in remote.listed("/models", "after"):
                names.append(str(row["id"]))
                if len(names) >= _MOST_NAMES:
                    break
        except TransientError as error:
            _log.warning("The list of models at %s cannot be had: %s", self._server.address, error)
        except TeacherError as error:
            refusal = error.__context__
            if isinstance(refusal, ProviderError) and (refusal.status != 401 or _SCOPE.search(refusal.message)):
                return  # it does not show the list to this key, which says nothing about completions
            raise
        finally:
            await remote.aclose()
        if names and self._model not in names:
            _log.warning(
                "The server at %s lists %s, but not %s, which it will be asked for; where it has another name there, give "
                "%s served_model=MODEL=NAME.",
                self._server.address, ", ".join(names[:5]), self._model, _FLAG,
            )  # fmt: skip

    @asynccontextmanager
    async def _remote(self) -> AsyncIterator[tuple[Remote, asyncio.Semaphore]]:
        # One pool of connections for the calls that overlap. It goes with the last of them, since ``close`` of a sampler
        # is no coroutine and cannot end it.
        if self._shared is None:
            self._shared = self._server.remote(self._timeout), asyncio.Semaphore(self._gate_size)
        self._users += 1
        shared = self._shared
        try:
            yield shared
        finally:
            self._users -= 1
            if not self._users:
                self._shared = None
                await shared[0].aclose()

    async def _completions(
        self, remote: Remote, gate: asyncio.Semaphore, prompt: str, n: int, settings: dict[str, float], seed: int
    ) -> list[str]:
        texts: list[str] = []
        try:
            while len(texts) < n:
                if self._max_n > 1:
                    wanted = min(n - len(texts), self._max_n)
                    got = [await self._ask(remote, gate, prompt, wanted, settings, seed + len(texts))]
                    if len(got[0]) < wanted:
                        self._max_n = 1
                else:
                    # The seed must differ, or they would be all the same.
                    rest = range(seed + len(texts), seed + n)
                    got = await asyncio.gather(*(self._ask(remote, gate, prompt, 1, settings, s) for s in rest))
                texts += [text for some in got for text in some]
        except RowRefused:
            return [""] * n
        return texts[:n]

    async def _ask(
        self, remote: Remote, gate: asyncio.Semaphore, prompt: str, n: int, settings: dict[str, float], seed: int
    ) -> list[str]:
        body = {"model": self._model, "prompt": replace_surrogates(prompt), "seed": seed % 2**31, **settings}
        if n > 1:
            body["n"] = n
        waited = 0.0
        for attempt in range(1, TRIES + 1):
            try:
                async with gate:
                    return await self._asked(remote, body)
            except TransientError as error:
                if attempt == TRIES:
                    raise TeacherError(f"the sampler 'openai' failed {TRIES} times in a row: {error}") from None
                pause = max(2.0 ** (attempt - 1) * random.uniform(0.5, 1.0), error.retry_after or 0.0)
                waited += pause
                if waited > PATIENCE:
                    raise TeacherError(
                        f"the sampler 'openai' was asked to wait {pause:.0f} s, which is too long: {error}. "
                        "Give the same command again when the server has room"
                    ) from None
                self._tell(pause, error)
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _tell(self, pause: float, error: TransientError) -> None:
        # Requests that fail together wait together; one line is enough for them.
        now = time.monotonic()
        if pause >= _LONG and now >= self._told_until:
            self._told_until = now + pause
            _log.warning("the sampler 'openai' waits %.0f s, as the server asks for: %s", pause, error)

    async def _asked(self, remote: Remote, body: dict[str, object]) -> list[str]:
        try:
            answer = await remote.post("/completions", body, self._model)
        except ProviderError as error:
            if named(error, body) == "n":
                self._max_n = 1
                return await self._asked(remote, {name: value for name, value in body.items() if name != "n"})
            failure = await remote.failure(error, self._model)
            if error.status == 404 and isinstance(failure, TeacherError):
                raise TeacherError(
                    f"{failure}. The sampler 'openai' loads no models: let the server serve this one, under its own name or "
                    f"one given with {_FLAG} served_model=MODEL=NAME"
                ) from None
            raise failure from None
        texts = [part(choice, "text", str)[:MOST_CHARACTERS] for choice in part(answer.body, "choices", list)]
        if not texts:
            raise TransientError("an answer without choices")
        return texts


def _served(model: str, served_model: str) -> str:
    if not served_model:
        return model
    ours, equals, theirs = served_model.partition("=")
    if not (equals and ours and theirs):
        raise SettingsError(f"{_FLAG} served_model={served_model} must be of the form MODEL=NAME")
    return theirs if ours in (model, PurePath(model).name) else model
