"""The sampler ``ray``: another sampler in workers on the nodes of a Ray cluster."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl import DataError, Finding, Prompt, SettingsError, hookimpl, load
from dsrl_ray.options import parse_options

if TYPE_CHECKING:
    from dsrl_ray.pool import WorkerPool
    from dsrl_ray.session import RaySession

log = logging.getLogger(__name__)

#: Chunks that a worker has at once. The engine of vLLM works on several; `transformers` has the next one at hand.
_LANES = {"vllm": 4}
#: The files of an adapter may take so many bytes together.
_LARGEST_ADAPTER = 4 * 2**30


class RaySampler:
    """Spreads the prompts of a call over workers on a Ray cluster; see :class:`dsrl.plugins.specs.SamplerSpec`.

    Args:
        options: each is one of these; unknown ones are refused.

            ``model``: a hub id, or a folder that every node can read.

            ``sampler``: the sampler of the workers: ``transformers`` (default) or ``vllm``.

            ``ray_address``: a Ray cluster that runs already, ``HOST:PORT`` or ``auto``; without it, a Ray of this machine.

            ``actors``: number of workers; 0: as many as there is room for, without GPUs at most 4 a node.

            ``cpus``, ``gpus``: CPUs and GPUs of a worker; GPUs: 1 where there are any, or ``set.tensor_parallel``.

            ``chunk``: prompts that a worker gets at once; 0 chooses.

            ``start_seconds``: time until a worker that cannot start is given up.

            ``device``, ``dtype``, and ``set.NAME``: options of the sampler in the workers.
    """

    def __init__(self, **options: Any) -> None:
        if "model" not in options:
            raise SettingsError("the sampler ray needs the option model")
        self._options = parse_options(options)
        self._session: RaySession | None = None
        self._pool: WorkerPool | None = None
        self._start_lock = threading.Lock()

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
        adapter: Path | None,
    ) -> list[list[str]]:
        """Return ``n`` completions of each prompt; see :meth:`dsrl.plugins.specs.SamplerSpec.sample`.

        The chunks depend on the call only. So the texts are the same with any number of workers, whichever of them die.

        Raises:
            DataError: a node cannot read the model, or the folder holds no adapter.
            DsrlError: no worker is left, or the sampler of a worker raised it.
            SettingsError: the cluster does not answer, or has no room for a worker.
        """
        from dsrl_ray.chunks import make_chunks

        if not prompts:
            return []
        pool = await asyncio.to_thread(self._start)
        settings = {
            "n": n,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
            "seed": seed,
            "first": first,
        }
        files = None if adapter is None else await asyncio.to_thread(read_adapter, adapter)
        stored = None if files is None else _store(files)
        chunks = make_chunks(prompts, n, self._options.chunk)
        answers = await pool.run(
            chunks,
            lambda worker, places: worker.sample.remote([prompts[place] for place in places], settings, stored),
        )
        texts: list[list[str]] = [[] for _ in prompts]
        for places, rows in zip(chunks, answers, strict=True):
            for place, row in zip(places, rows, strict=True):
                texts[place] = row
        return texts

    @hookimpl
    def check(self, prompts: Sequence[Prompt], max_tokens: int) -> None:
        """Check the cluster: that it answers, has room for the workers, and that the sampler can work on its nodes.

        Without an address, the sampler of the workers is checked on this machine.

        Raises:
            DsrlError: what the sampler of the workers finds, with the node.
            SettingsError: the cluster does not answer, or has no room for a worker.
        """
        from dsrl_ray.cluster import ask_cluster, count_workers, look_at_machine

        options = self._options
        if not options.ray_address:
            count_workers(options, [look_at_machine()])
            inner = load(options.ref, "sampler")
            if inner.implements("check"):
                inner.hook.check(prompts=list(prompts), max_tokens=max_tokens)
            return
        load(options.ref, "sampler")  # its options
        nodes = ask_cluster(options.ray_address, options, prompts, max_tokens)
        count_workers(options, nodes)
        for node in nodes:
            if node.fault:
                log.warning("The sampler cannot work on the node %s: %s", node.address, node.fault)

    @hookimpl
    def has_chat_template(self, system: str) -> bool:
        """Return whether the sampler of the workers finds a chat template in the model, which this machine reads.

        Raises:
            DataError: there is no readable tokenizer, or the template cannot render a prompt.
        """
        inner = load(self._options.ref, "sampler")
        return inner.implements("has_chat_template") and bool(inner.hook.has_chat_template(system=system))

    @hookimpl
    def diagnose(self, model: str) -> list[Finding]:
        """Say which cluster would be used, what it has, and whether the sampler can work on its nodes."""
        from dsrl_ray.diagnosis import diagnose

        return diagnose(self._options)

    @hookimpl
    async def aclose(self) -> None:
        """End the workers, which gives back their memory, and the connection; a Ray of this machine ends, too."""
        pool, self._pool = self._pool, None
        session, self._session = self._session, None
        if pool is not None:
            await asyncio.to_thread(pool.stop)
        if session is not None:
            await asyncio.to_thread(session.close)

    def _start(self) -> WorkerPool:
        from dsrl_ray.pool import WorkerPool

        with self._start_lock:
            if self._pool is None:
                count, make_worker = self._connect()
                lanes = _LANES.get(self._options.sampler, 2)
                self._pool = WorkerPool(make_worker, count, self._options.start_seconds, lanes)
                self._pool.start()
            return self._pool

    def _connect(self) -> tuple[int, Any]:
        """Connect to Ray. Return the number of workers, and what starts one."""
        import ray

        from dsrl_ray.cluster import choose_gpus, count_workers, look_at_machine
        from dsrl_ray.session import RaySession
        from dsrl_ray.worker import SamplerWorker

        options = self._options
        self._session = self._session or RaySession(options.ray_address, int(look_at_machine().gpus))
        nodes = self._session.list_nodes()
        count, gpus = count_workers(options, nodes), choose_gpus(options, nodes)
        worker = ray.remote(SamplerWorker).options(
            num_cpus=options.cpus,
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        return count, lambda: worker.remote(options.ref)


def read_adapter(folder: Path) -> dict[str, bytes]:
    """Read the files of a LoRA adapter, for the workers: their disks may not have it.

    Raises:
        DataError: there is no such folder, or it is no adapter.
    """
    if not folder.is_dir():
        raise DataError(f"The folder {folder} of a LoRA adapter does not exist.")
    files = [file for file in folder.iterdir() if file.is_file()]
    if not (folder / "adapter_config.json").is_file():
        raise DataError(f"{folder} holds no adapter: adapter_config.json is not there.")
    if sum(file.stat().st_size for file in files) > _LARGEST_ADAPTER:
        raise DataError(f"{folder} is too large for an adapter; give a folder with its files only")
    return {file.name: file.read_bytes() for file in files}


def _store(files: dict[str, bytes]) -> Any:
    import ray

    return ray.put(files)
