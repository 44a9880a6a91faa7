"""The workers, and the chunks that they answer. A worker or a node that is lost costs its chunks in work, and nothing else.

Ray can restart actors and repeat their tasks. That is not used: while a dead node is still listed, the repetitions burn out
within seconds. Instead, a chunk whose worker is lost goes back into the queue, and another worker answers it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dsrl import DsrlError

log = logging.getLogger(__name__)

Texts = list[list[str]]
#: How often a chunk may lose its worker, and a place its worker.
_TRIES, _REPLACEMENTS = 4, 5


@dataclass
class _Place:
    """A place for a worker.

    Attributes:
        actor: the worker; None while there is none.
        node: the address of its node.
        replacements: how many workers it has lost.
    """

    actor: Any = None
    node: str = ""
    replacements: int = 0


class WorkerPool:
    """Workers of one sampler.

    Args:
        make_worker: starts an actor of :class:`dsrl_ray.worker.SamplerWorker`.
        count: the number of workers.
        start_seconds: time until a worker that cannot start is given up.
        lanes: chunks that a worker has at once, so that it never waits for the next one.
    """

    def __init__(self, make_worker: Callable[[], Any], count: int, start_seconds: float, lanes: int) -> None:
        self._make_worker, self._start_seconds, self._lanes = make_worker, start_seconds, lanes
        self._places = [_Place() for _ in range(count)]
        #: Chunks that were computed again, since the beginning.
        self.repeated = 0

    def start(self) -> None:
        """Start all workers, without waiting for them."""
        for place in self._places:
            place.actor = self._make_worker()

    def stop(self) -> None:
        """End all workers, which gives back their memory."""
        import ray

        for place in self._places:
            if place.actor is not None:
                ray.kill(place.actor)
                place.actor = None

    async def run(self, chunks: Sequence[Any], ask: Callable[[Any, Any], Any]) -> list[Texts]:
        """Return the texts of each chunk.

        Args:
            chunks: what the workers are asked.
            ask: sends a chunk to a worker, and returns Ray's reference of the texts.

        Raises:
            DsrlError: the sampler raised it, no worker is left, or a chunk lost its worker again and again.
        """
        queue = _Queue(len(chunks))
        results: list[Texts | None] = [None] * len(chunks)

        async def work(place: _Place) -> None:
            # A worker that is not ready takes no chunk: it may wait for a node that is gone.
            while not queue.done.is_set() and await self._make_ready(place):
                actor = place.actor
                number = await queue.take()
                if number is None:
                    return
                if place.actor is not actor:  # it was lost while this lane waited, and the new one is not ready
                    queue.put_back(number)
                    continue
                try:
                    results[number] = await self._watch(place, partial(ask, actor, chunks[number]))
                except _LostError as lost:
                    self.repeated += 1
                    queue.losses[number] += 1
                    queue.put_back(number)
                    if queue.losses[number] >= _TRIES:
                        raise DsrlError(
                            f"a chunk of prompts lost its worker {_TRIES} times; the last time: {lost}; perhaps it needs "
                            "more memory than a node has: give a smaller --sampler-option chunk, or smaller limits to the "
                            "sampler (--sampler-option set.cache_tokens=.., set.max_sequences=..)"
                        ) from None
                    self._replace(place, actor, str(lost))
                else:
                    queue.finish()

        tasks = [asyncio.create_task(work(place)) for place in self._places for _ in range(self._lanes)]
        try:
            await _wait_for(queue, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if None in results:
            raise DsrlError(
                "no worker of the Ray cluster is left, and no other one could be started; look at `ray status`, and run the "
                "same command again"
            )
        if queue.losses:
            log.warning("%d of %d chunks were computed again.", len(queue.losses), len(chunks))
        return [texts for texts in results if texts is not None]

    async def _make_ready(self, place: _Place) -> bool:
        """Wait until the worker of a place is ready; return False if the place has none any more."""
        while not place.node:
            actor = place.actor
            if actor is None:
                return False
            try:
                address = await asyncio.wait_for(self._watch(place, actor.get_node.remote), self._start_seconds)
            except _LostError as lost:
                self._replace(place, actor, str(lost))
            except TimeoutError:
                if place.actor is actor:
                    log.warning(
                        "A worker has not started within %d s, perhaps because the cluster has no room for it; the others "
                        "work without it.", self._start_seconds,
                    )  # fmt: skip
                    place.actor = None
            else:
                if place.actor is actor:
                    place.node = address
        return True

    async def _watch(self, place: _Place, ask: Callable[[], Any]) -> Any:
        """Wait for an answer of a worker.

        Raises:
            _LostError: the worker is lost.
        """
        import ray
        from ray import exceptions

        try:
            answer = ask()
            try:
                return await answer
            except asyncio.CancelledError:
                ray.cancel(answer)
                raise
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, DsrlError):
                cause.add_note(f"on the node {place.node or '?'} of the Ray cluster")
                raise cause from None
            raise
        except (
            exceptions.RayActorError,
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
            exceptions.OutOfMemoryError,
        ) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise _LostError(" ".join(line.strip() for line in lines[:3])[:300]) from None

    def _replace(self, place: _Place, lost: Any, reason: str) -> None:
        """Start another worker in a place, unless that was done already."""
        import ray

        if place.actor is not lost:
            return
        log.warning("A worker on the node %s is lost (%s); its prompts are asked again.", place.node or "?", reason)
        place.actor, place.node = None, ""
        ray.kill(lost)
        place.replacements += 1
        if place.replacements <= _REPLACEMENTS:
            place.actor = self._make_worker()


class _LostError(Exception):
    """A worker was lost."""


class _Queue:
    """The numbers of the chunks that nobody works on. Those who take one wait while others may put theirs back."""

    def __init__(self, count: int) -> None:
        self._waiting = deque(range(count))
        self._left = count
        #: How often each chunk has lost its worker.
        self.losses: Counter[int] = Counter()
        self.done = asyncio.Event()
        if not count:
            self.done.set()

    async def take(self) -> int | None:
        """Return a chunk; None if all are finished."""
        while not self.done.is_set():
            if self._waiting:
                return self._waiting.popleft()
            await asyncio.sleep(0.02)
        return None

    def put_back(self, number: int) -> None:
        """Give back a chunk; it is the next one to be taken."""
        self._waiting.appendleft(number)

    def finish(self) -> None:
        """Say that a chunk is finished."""
        self._left -= 1
        if not self._left:
            self.done.set()


async def _wait_for(queue: _Queue, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until all chunks are finished, or all tasks have ended; raise what a task raises."""
    done = asyncio.create_task(queue.done.wait())
    pending = {done, *tasks}
    try:
        while done in pending and len(pending) > 1:
            ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
    finally:
        done.cancel()
