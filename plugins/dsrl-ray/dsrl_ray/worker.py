"""The worker: an actor of Ray that has the sampler of one model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl import PluginRef, Prompt, load

if TYPE_CHECKING:
    from dsrl.plugins.binding import Plugin
    from dsrl.plugins.specs import SamplerSpec


class SamplerWorker:
    """Answers chunks of prompts. All hooks run on the event loop of the actor.

    Args:
        ref: the sampler.
    """

    def __init__(self, ref: PluginRef) -> None:
        # Not bound here: an error of the constructor reaches the caller as a lost actor.
        self._ref = ref
        self._plugin: Plugin[SamplerSpec] | None = None

    async def get_node(self) -> str:
        """Bind the sampler, and return the address of the node: the worker is ready.

        Raises:
            DsrlError: the sampler cannot be bound on this node.
        """
        import ray

        self._plugin = self._plugin or load(self._ref, "sampler")
        return str(ray.util.get_node_ip_address())

    async def sample(
        self, prompts: Sequence[Prompt], settings: Mapping[str, Any], adapter: Mapping[str, bytes] | None
    ) -> list[list[str]]:
        """Return the texts of a chunk.

        Args:
            prompts: the prompts.
            settings: further arguments of the hook ``sample``.
            adapter: the files of a LoRA adapter, which may be on another machine; None if there is none.
        """
        assert self._plugin is not None, "get_node comes first"
        folder = None if adapter is None else Path(tempfile.mkdtemp(prefix="dsrl-adapter-"))
        try:
            for name, content in (adapter or {}).items():
                assert folder is not None
                (folder / name).write_bytes(content)
            texts = await self._plugin.hook.sample(prompts=list(prompts), adapter=folder, **settings)
            return [list(row) for row in texts]
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
