"""Rate an answer with the rewards of an environment, which are coroutines, from code that is none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

from dsrl import PluginError

R = TypeVar("R")
#: Seconds that a loop has to end a cancelled call.
_GRACE = 0.5


class PrivateLoop:
    """An event loop in a thread of its own: a hook of a task may be called where another loop is running already.

    Args:
        time_limit: seconds that one call may take.
    """

    def __init__(self, time_limit: float) -> None:
        self._time_limit = time_limit
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Return what a coroutine returns.

        Raises:
            TimeoutError: it took longer than the limit. A coroutine that never gives the loop back cannot be stopped; its
                thread is left behind, and the next call gets a new one.
        """
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="dsrl-verifiers", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(self._time_limit)
        except TimeoutError:
            future.cancel()
            if not self._is_free():
                self._loop = None
            raise

    def _is_free(self) -> bool:
        """Return whether the loop still works; a function that never gives it back holds it for ever."""
        assert self._loop is not None
        try:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(_GRACE)
        except TimeoutError:
            return False
        return True


async def score_output(task: Any, output: str) -> tuple[float, dict[str, float]]:
    """Rate an output as verifiers does after a rollout of one turn.

    Args:
        task: a task of verifiers.
        output: the answer of the model, as the only message after the prompt.

    Returns:
        The sum of the weighted rewards, and each of them by its name.
    """
    import verifiers.v1 as vf

    data = task.data
    prompt = [vf.UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else list(data.prompt)
    messages = [vf.SystemMessage(content=data.system_prompt)] if data.system_prompt else []
    messages += prompt
    nodes = [
        vf.MessageNode(message=message, parent=place - 1 if place else None) for place, message in enumerate(messages)
    ]
    nodes.append(vf.MessageNode(message=vf.AssistantMessage(content=output), parent=len(nodes) - 1, sampled=True))
    trace = vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=data, key=task.key, hash=task.hash),
        agent=vf.AgentInfo(config=_make_agent_config()),
        verifiers=_find_version(),
        nodes=nodes,
        is_completed=True,
        ok=True,
    )
    await task.score(trace)
    unscored = [name for name, reward in trace.rewards.items() if reward is None]
    if unscored:
        raise PluginError(f"the environment gave no number for its reward {', '.join(unscored)}")
    return float(trace.reward), {name: float(r.value) for name, r in trace.rewards.items() if r is not None}


@cache
def _make_agent_config() -> Any:
    import verifiers.v1 as vf

    return vf.AgentConfig(runtime=vf.SubprocessConfig(), max_turns=1)


@cache
def _find_version() -> Any:
    """Return what a trace says about the library; by default, it asks git for each trace."""
    import verifiers
    import verifiers.v1 as vf

    return vf.VersionInfo(version=verifiers.__version__)
