"""dsrl's CPU mode for verl 0.9.1 (``--device cpu``): slow, for tests and rehearsals of a run on a cluster.

verl loads this module in all of its processes (``VERL_USE_EXTERNAL_MODULES``). Nothing of verl is edited. It uses verl's own
interfaces for a platform and for an engine that answers, and wraps three functions that cannot work without a GPU:

* ``init_process_group`` gets ``cpu:gloo,cpu:gloo``, and torch refuses a device that is named twice;
* the reference model is always given ``CPUOffloadPolicy(pin_memory=True)``, and pinned memory needs a GPU;
* the critic is always loaded with flash attention.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
import torch.distributed.fsdp
from verl.plugin.platform import PlatformBase, PlatformRegistry, set_platform

NAME = "dsrl_cpu"
#: What verl is told about the memory: it only prints it.
_MEMORY = 16 << 30


class _CpuModule(types.ModuleType):
    """Stands for ``torch.cuda``: what ``torch.cpu`` has not does nothing and returns 0."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(torch.cpu, name, lambda *args, **kwargs: 0)


def _make_module() -> _CpuModule:
    module: Any = _CpuModule(NAME)
    module.is_available = lambda: True
    module.mem_get_info = lambda *args: (_MEMORY, _MEMORY)
    module.get_rng_state = lambda *args: torch.get_rng_state()
    module.set_rng_state = lambda state, *args: torch.set_rng_state(state)
    module.manual_seed = module.manual_seed_all = lambda seed: torch.manual_seed(seed)
    module.get_device_properties = lambda *args: types.SimpleNamespace(name="cpu", total_memory=_MEMORY)
    module.get_device_name = lambda *args: "cpu"
    return module  # type: ignore[no-any-return]


_MODULE = _make_module()


@PlatformRegistry.register(platform=NAME)
class CpuPlatform(PlatformBase):  # type: ignore[misc]
    """The CPU as a platform of verl. In Ray it is a logical GPU, because verl places its workers on GPUs."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _MODULE

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"  # verl hands it to .to(..), where a number would be a CUDA device

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None:
        return None


def _wrap_process_groups() -> None:
    original = torch.distributed.init_process_group

    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return original("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    torch.distributed.init_process_group = init_process_group


def _wrap_offloading() -> None:
    class Unpinned(torch.distributed.fsdp.CPUOffloadPolicy):
        def __init__(self, pin_memory: bool = False) -> None:
            super().__init__(pin_memory=False)

    torch.distributed.fsdp.CPUOffloadPolicy = Unpinned  # type: ignore[misc]


def _wrap_critic() -> None:
    import verl.utils.model

    # verl names the arguments.
    def load_valuehead_model(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification.from_pretrained(
            local_path, dtype=torch_dtype, config=model_config, attn_implementation="eager", trust_remote_code=False
        )

    verl.utils.model.load_valuehead_model = load_valuehead_model


def _register_engine() -> None:
    from verl.workers.rollout import base
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    def load_replica() -> Any:
        from dsrl_verl.cpu_engine import CpuReplica

        return CpuReplica

    base._ROLLOUT_REGISTRY[(NAME, "async")] = "dsrl_verl.cpu_engine.CpuAdapter"
    RolloutReplicaRegistry.register(NAME, load_replica)


set_platform(CpuPlatform())
_wrap_process_groups()
_wrap_offloading()
_wrap_critic()
_register_engine()
