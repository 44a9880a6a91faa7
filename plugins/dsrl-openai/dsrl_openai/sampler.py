"""The sampler ``openai``: a base model behind a server that speaks OpenAI's protocol (vLLM, llama.cpp, ...)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import Any

from dsrl_http.endpoint import check_positive
from dsrl_http.errors import ProviderError
from dsrl_http.failures import explain
from dsrl_http.json_values import MOST_CHARACTERS, get_member
from dsrl_http.teacher import HttpPlugin

from dsrl import Prompt, RowRefused, SettingsError, TeacherError, TransientError, hookimpl
from dsrl.text import replace_surrogates
from dsrl_openai.endpoint import choose_endpoint
from dsrl_openai.model_settings import find_refused_setting

_FLAG = "--sampler-option"
_PATH = "/completions"
_CHAT_PATH = "/chat/completions"
#: How often a request is tried, about a minute in all.
TRIES = 7
#: Seconds for the list of models, before a run.
CHECK_SECONDS = 20.0
_MOST_NAMES = 1000
#: What OpenAI answers to a key that may ask for completions, but not for the list of models.
_SCOPE = re.compile(r"scope|permission", re.IGNORECASE)

#: Maximum seconds of all pauses between the tries of a request. If a server asks for more, dsrl gives up.
PATIENCE = 1800.0
#: A pause of so many seconds is logged.
_LONG_PAUSE = 30.0

_log = logging.getLogger(__name__)


class OpenAISampler(HttpPlugin):
    """Samples from a served model; see :class:`dsrl.plugins.specs.SamplerSpec`.

    A chat prompt goes to the server's chat completions, which apply the model's chat template. A plain prompt goes to its
    completions.

    The sampler asks the server for the model by dsrl's name for it: a hub id or a folder. When the trained model of a run is
    evaluated, that is its folder. If the server answers with one model under any name, the run is worth nothing.

    Args:
        model: a folder or a hub id; dsrl sets it.
        base_url: the server, e.g. ``http://127.0.0.1:8000/v1``. Empty: ``OPENAI_BASE_URL``, or OpenAI itself.
        served_model: ``MODEL=NAME`` if the server has another name for a model; ``MODEL`` is dsrl's name or the last part of
            its path.
        api_key_env: environment variable that holds the key, for a server that requires one.
        concurrency: number of requests at the same time.
        timeout: seconds for one request.
        max_n: maximum number of completions to ask for in one request; 1 for a server that always gives one.

    Raises:
        SettingsError: an option is not valid.
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
        self._model = _get_served_name(model, served_model)
        self._max_n = int(check_positive(max_n, f"{_FLAG} max_n"))
        self._concurrency = int(check_positive(concurrency, f"{_FLAG} concurrency"))
        seconds = check_positive(timeout, f"{_FLAG} timeout")
        super().__init__(choose_endpoint(base_url, api_key_env, _FLAG), seconds)
        self._slots = asyncio.Semaphore(self._concurrency)
        self._users = 0
        self._quiet_until = 0.0

    @hookimpl
    async def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
        first: int,
    ) -> list[list[str]]:
        """Return ``n`` completions of each prompt. The server gets seeds, and may use or ignore them.

        The seed of an attempt depends on the seed of the call, the prompt and the number of the attempt only. A prompt that
        is given twice gets other attempts for the second time.

        A prompt that the server refuses as too long, or with a filter, has empty completions.

        Raises:
            TeacherError: the server cannot be used, or failed several times.
        """
        settings = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        async with self._hold_connection():
            tasks = [
                asyncio.create_task(self._complete(prompt, n, settings, own + first))
                for prompt, own in zip(prompts, _make_seeds(prompts, seed), strict=True)
            ]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @hookimpl
    def has_chat_template(self, system: str) -> bool:
        """Return whether the server answers a chat prompt for this model; it is asked for one token.

        Raises:
            TeacherError: the server cannot be used.
        """
        return asyncio.run(self._try_chat(system))

    async def _try_chat(self, system: str) -> bool:
        prompt = Prompt("Hello", system, is_chat=True)
        try:
            async with self._hold_connection():
                await self._request(prompt, 1, {"temperature": 0.0, "top_p": 1.0, "max_tokens": 1}, 0)
        except (RowRefused, TeacherError) as error:
            _log.info("The server at %s does not answer chat prompts: %s", self.endpoint.address, error)
            return False
        return True

    @hookimpl
    def check(self) -> None:
        """Check that the server can be reached and accepts the key. It asks for the list of models, which is free.

        A server that has no such list, or does not show it, passes the check.

        Raises:
            TeacherError: there is no key or no server, or the server rejects the key.
        """
        asyncio.run(self._check_server())

    async def _check_server(self) -> None:
        from dsrl_http.connection import Connection

        connection = Connection(self.endpoint, min(self.timeout, CHECK_SECONDS))
        names: list[str] = []
        try:
            async for row in connection.list_objects(self.endpoint.models_path):
                names.append(row["id"])
                if len(names) >= _MOST_NAMES:
                    break
        except ProviderError as error:
            failure = await explain(error, connection, "")
            if not isinstance(failure, TransientError):
                if error.status == 401 and not _SCOPE.search(error.message):
                    raise failure from None
                return  # the server does not show the list to this key, which says nothing about completions
            self._warn_about_list(failure)
        except TransientError as error:
            self._warn_about_list(error)
        finally:
            await connection.aclose()
        if names and self._model not in names:
            _log.warning(
                "The server at %s lists %s, but not %s, which dsrl will ask it for. If it has another name there, set "
                "%s served_model=MODEL=NAME.",
                self.endpoint.address, ", ".join(names[:5]), self._model, _FLAG,
            )  # fmt: skip

    def _warn_about_list(self, error: TransientError) -> None:
        _log.warning("Cannot read the list of models at %s: %s", self.endpoint.address, error)

    @asynccontextmanager
    async def _hold_connection(self) -> AsyncIterator[None]:
        # Calls that overlap share one connection. The last of them closes it, because the next one may run on another event
        # loop.
        if not self._users:
            self._slots = asyncio.Semaphore(self._concurrency)
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and self._connection is not None:
                connection, self._connection = self._connection, None
                await connection.aclose()

    async def _complete(self, prompt: Prompt, n: int, settings: Mapping[str, float], seed: int) -> list[str]:
        texts: list[str] = []
        try:
            while len(texts) < n:
                missing = n - len(texts)
                if self._max_n > 1:
                    count = min(missing, self._max_n)
                    answers = [await self._request(prompt, count, settings, seed + len(texts))]
                    if len(answers[0]) < count:
                        self._max_n = 1
                else:
                    # The seeds must differ; otherwise all completions would be the same.
                    seeds = range(seed + len(texts), seed + n)
                    answers = await asyncio.gather(*(self._request(prompt, 1, settings, s) for s in seeds))
                texts += [text for answer in answers for text in answer]
        except RowRefused:
            return [""] * n
        return texts[:n]

    async def _request(self, prompt: Prompt, n: int, settings: Mapping[str, float], seed: int) -> list[str]:
        """Send one request, again after failures that are worth a retry."""
        body: dict[str, Any] = {"model": self._model, "seed": seed % 2**31, **settings}
        if prompt.is_chat:
            messages = [{"role": m.role, "content": replace_surrogates(m.content)} for m in prompt.messages]
            body["messages"] = messages
        else:
            body["prompt"] = replace_surrogates(prompt.plain_text)
        if n > 1:
            body["n"] = n
        total_pause = 0.0
        for attempt in range(1, TRIES + 1):
            try:
                async with self._slots:
                    return await self._post(body)
            except TransientError as error:
                if attempt == TRIES:
                    raise TeacherError(f"the sampler 'openai' failed {TRIES} times in a row: {error}") from None
                pause = max(2.0 ** (attempt - 1) * random.uniform(0.5, 1.0), error.retry_after or 0.0)
                total_pause += pause
                if total_pause > PATIENCE:
                    raise TeacherError(
                        f"the server asked the sampler 'openai' to wait {pause:.0f} s, which is too long: {error}. "
                        "Run the same command again when the server is less busy"
                    ) from None
                self._log_pause(pause, error)
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _log_pause(self, pause: float, error: TransientError) -> None:
        # Requests that fail together wait together; one line is enough for them.
        now = time.monotonic()
        if pause >= _LONG_PAUSE and now >= self._quiet_until:
            self._quiet_until = now + pause
            _log.warning("the sampler 'openai' waits %.0f s, as the server asks: %s", pause, error)

    async def _post(self, body: Mapping[str, object]) -> list[str]:
        try:
            path = _CHAT_PATH if "messages" in body else _PATH
            answer = await self.connection.post(path, body, self._model)
        except ProviderError as error:
            if find_refused_setting(error, body) == "n":
                self._max_n = 1
                return await self._post({name: value for name, value in body.items() if name != "n"})
            failure = await explain(error, self.connection, self._model)
            if error.status == 404 and isinstance(failure, TeacherError):
                raise TeacherError(
                    f"{failure}. The sampler 'openai' loads no models. Let the server serve this one, under its own name or "
                    f"another that you set with {_FLAG} served_model=MODEL=NAME"
                ) from None
            raise failure from None
        choices = get_member(answer.body, "choices", list)
        texts = [_get_text(choice)[:MOST_CHARACTERS] for choice in choices]
        if not texts:
            raise TransientError("the answer has no choices")
        return texts


def _get_text(choice: Any) -> str:
    # The answer to a chat prompt is a message. A model that reasons may end before it writes the content of it.
    return get_member(choice, "text", str) or get_member(get_member(choice, "message", dict), "content", str)


def _get_served_name(model: str, served_model: str) -> str:
    if not served_model:
        return model
    ours, equals, theirs = served_model.partition("=")
    if not (equals and ours and theirs):
        raise SettingsError(f"{_FLAG} served_model={served_model} must be of the form MODEL=NAME")
    return theirs if ours in (model, PurePath(model).name) else model


def _make_seeds(prompts: Sequence[Prompt], seed: int) -> list[int]:
    """Return the seed of the first attempt at each prompt."""
    repeats: Counter[tuple[str, str]] = Counter()
    seeds = []
    for prompt in prompts:
        key = (prompt.system, str(prompt))
        digest = hashlib.blake2b(f"{seed}/{repeats[key]}/{key}".encode("utf-8", "replace"), digest_size=4).digest()
        seeds.append(int.from_bytes(digest, "big") >> 1)
        repeats[key] += 1
    return seeds
