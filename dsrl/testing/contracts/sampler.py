"""Contract classes of samplers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest

from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import Plugin
from dsrl.testing.contracts.base import PluginContract
from dsrl.testing.fixtures import Installer
from dsrl.types import PluginRef, Prompt

T = TypeVar("T")
PROMPTS = (
    Prompt("What is 1 + 1?"),
    Prompt("Is water wet? Think about it, then answer.", system="Answer in one word."),
    Prompt("Name a fruit."),
)
#: Seconds that all calls of a test may take.
TIME_LIMIT = 300.0
#: Seconds that a call may keep the event loop busy.
LONGEST_BLOCK = 1.0

Texts = list[list[str]]


class SamplerContract(PluginContract):
    """Tests of every sampler.

    Attributes:
        model: the base model: the name of an installed one, a folder or a hub id; or a fixture that returns it.
        max_tokens: the length limit of the tests, in tokens.
    """

    kind = "sampler"
    model: Any = "tiny"
    max_tokens: int = 12

    @pytest.fixture
    def ref(self, request: pytest.FixtureRequest, installer: Installer) -> PluginRef:
        plugin, model = self.read("plugin", request), self.read("model", request)
        assert plugin, f"{type(self).__name__}: set `plugin` to the name of your {self.kind}"
        name = plugin if isinstance(plugin, str) else installer.install_unnamed(self.kind, plugin)
        options = {"model": resolve_model(str(model)).location, **self.read("options", request)}
        return PluginRef(self.kind, name, options)

    def use(self, sampler: Plugin[Any], work: Callable[[], Awaitable[T]]) -> T:
        """Work with a sampler on an event loop, then close it."""

        async def session() -> T:
            try:
                async with asyncio.timeout(TIME_LIMIT):
                    return await work()
            finally:
                await sampler.hook.aclose()

        return asyncio.run(session())

    async def sample(
        self, sampler: Plugin[Any], prompts: Sequence[Prompt] = PROMPTS, n: int = 2, **settings: Any
    ) -> Texts:
        """Return completions; ``settings`` replace the usual arguments of the hook."""
        usual = {"temperature": 1.0, "top_p": 1.0, "max_tokens": self.max_tokens, "seed": 3}
        completions: Texts = await sampler.hook.sample(prompts=list(prompts), n=n, **{**usual, **settings})
        return completions

    @pytest.mark.parametrize(("prompts", "n"), [(3, 1), (1, 5), (3, 4), (0, 2)])
    def test_each_prompt_has_n_completions(self, subject: Plugin[Any], prompts: int, n: int) -> None:
        completions = self.use(subject, lambda: self.sample(subject, PROMPTS[:prompts], n))
        assert [len(texts) for texts in completions] == [n] * prompts

    def test_temperature_zero_is_greedy(self, subject: Plugin[Any]) -> None:
        async def work() -> list[Texts]:
            return [await self.sample(subject, n=3, temperature=0.0, seed=seed) for seed in (1, 2)]

        first, second = self.use(subject, work)
        assert first == second
        assert all(len(set(texts)) == 1 for texts in first)

    def test_max_tokens_is_kept(self, subject: Plugin[Any]) -> None:
        async def work() -> list[Texts]:
            return [await self.sample(subject, n=1, temperature=0.0, max_tokens=most) for most in (1, self.max_tokens)]

        for (short,), (long,) in zip(*self.use(subject, work), strict=True):
            assert len(short) <= len(long)

    def test_calls_at_the_same_time_do_not_disturb_each_other(self, subject: Plugin[Any]) -> None:
        async def work() -> tuple[Texts, list[Texts]]:
            alone = await self.sample(subject, n=1, temperature=0.0)
            calls = [self.sample(subject, [prompt], n=1, temperature=0.0) for prompt in PROMPTS]
            return alone, await asyncio.gather(*calls)

        alone, together = self.use(subject, work)
        assert [texts for (texts,) in together] == alone

    def test_it_leaves_the_event_loop_free(self, subject: Plugin[Any]) -> None:
        async def work() -> tuple[float, float]:
            await self.sample(subject, n=1)  # The first call loads the model.
            began = last = time.monotonic()
            longest = 0.0
            call = asyncio.create_task(self.sample(subject, n=16))
            while not call.done():
                await asyncio.sleep(0.001)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            await call
            return longest, time.monotonic() - began

        longest, whole = self.use(subject, work)
        assert longest < LONGEST_BLOCK or longest < whole / 2

    @pytest.mark.parametrize("calls", [0, 1])
    def test_it_can_be_closed_twice(self, subject: Plugin[Any], calls: int) -> None:
        async def work() -> None:
            for _ in range(calls):
                await self.sample(subject, n=1)
            await subject.hook.aclose()

        self.use(subject, work)

    def test_the_check_passes(self, subject: Plugin[Any]) -> None:
        if not subject.implements("check"):
            pytest.skip("the sampler has no hook check")
        subject.hook.check(prompts=PROMPTS, max_tokens=8)


class RepeatableSamplerContract(SamplerContract):
    """Tests of a sampler whose engine can repeat a call."""

    def test_the_same_call_has_the_same_texts(self, subject: Plugin[Any]) -> None:
        async def work() -> list[Texts]:
            first = await self.sample(subject)
            await self.sample(subject, PROMPTS[:1], n=1, seed=4)  # Another call in between makes no difference.
            return [first, await self.sample(subject)]

        first, second = self.use(subject, work)
        assert first == second

    def test_attempts_continue_where_the_last_call_ended(self, subject: Plugin[Any]) -> None:
        if not subject.accepts("sample", "first"):
            pytest.skip("the sampler takes no argument first")

        async def work() -> tuple[Texts, list[Texts]]:
            together = await self.sample(subject, n=4)
            return together, [await self.sample(subject, n=2, first=first) for first in (0, 2)]

        together, (head, tail) = self.use(subject, work)
        assert [one + two for one, two in zip(head, tail, strict=True)] == together
