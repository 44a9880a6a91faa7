"""Checks of the machine: the installed packages, the GPUs, and a Ray cluster that already runs."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from dsrl_ray.cluster import ask_cluster

from dsrl import DsrlError, SettingsError
from dsrl_verl.layout import Cluster
from dsrl_verl.options import FLAG, TrainerOptions

#: The version of verl that dsrl was run with. Its settings, files and plugin interface change from version to version.
PROVEN_VERL = "0.9.1"
#: Bytes of verl's and Ray's processes in CPU mode, without a model.
_CPU_PROCESSES = 3e9
#: Seconds that a Ray cluster may take to answer.
_RAY_SECONDS = 60.0


def check_packages(engine: str, is_cpu: bool, has_critic: bool = False) -> None:
    """Check that verl can be used in this environment.

    Args:
        engine: the engine that answers; it is not needed in CPU mode.
        is_cpu: whether the training runs in CPU mode.
        has_critic: whether a critic is trained (PPO).

    Raises:
        DsrlError: a package is missing, has an unproven version, or must not be beside verl.
    """
    try:
        found = version("verl")
    except PackageNotFoundError:
        raise DsrlError(
            "the trainer verl needs the package verl, which is not installed; make an environment of its own for it: "
            "pip install dsrl-verl (in it, TRL and dsrl's own constraints do not fit)"
        ) from None
    if found != PROVEN_VERL:
        raise DsrlError(
            f"verl {found} is installed, and dsrl-verl was proved with verl {PROVEN_VERL} only, whose settings and files "
            f"differ; install it: pip install verl=={PROVEN_VERL} (it needs Python 3.10 to 3.12)"
        )
    if find_spec("trl") is not None:
        raise DsrlError(
            "the package trl is installed in the environment of verl, which then imports a class that trl no longer has; "
            "remove it: pip uninstall trl"
        )
    missing = [name for name in ("ray", "hydra", "transfer_queue", "peft") if find_spec(name) is None]
    if missing:
        raise DsrlError(f"verl needs {', '.join(missing)}, which is not installed; install dsrl-verl again with pip")
    if not is_cpu and find_spec(engine) is None:
        raise DsrlError(
            f"verl answers with {engine}, which is not installed; install it: pip install 'verl[{engine}]=={PROVEN_VERL}' "
            f"(or choose the other engine with {FLAG} engine=..; --device cpu rehearses without one)"
        )
    if has_critic and not is_cpu and find_spec("flash_attn") is None:
        raise DsrlError(
            "verl loads the critic of PPO with flash attention only, and the package flash_attn is not installed; install "
            f"it: pip install flash-attn --no-build-isolation (or train by {FLAG} algorithm=grpo, which needs no critic)"
        )


def check_cpu_memory(weights: int, has_adapters: bool, has_critic: bool) -> None:
    """Check that a training in CPU mode fits into this machine's free memory.

    Args:
        weights: number of weights of the model.
        has_adapters: whether only LoRA adapters are trained.
        has_critic: whether a critic of the same size is trained.

    Raises:
        SettingsError: it does not; the text says what would.
    """
    import torch
    from dsrl_transformers.memory_estimate import read_available_memory

    available = read_available_memory(torch.device("cpu"))
    # In float32: weights, gradients and two moments; the reference, the engine's model, and the weights on their way to it.
    each = (4 if has_adapters else 16) + 12 + (16 if has_critic else 0)
    needs = _CPU_PROCESSES + each * weights
    if available is not None and needs > available:
        fitting = max(0.0, (available - _CPU_PROCESSES) / each)
        raise SettingsError(
            f"verl on a CPU needs about {needs / 1e9:.1f} GB for a model of {weights / 1e9:.2g} billion weights, and "
            f"{available / 1e9:.1f} GB are free, enough for {fitting / 1e9:.2g} billion; rehearse with a smaller "
            "--base-model, or train with --trainer grpo, which needs less"
        )


def find_cluster(options: TrainerOptions, device: str) -> Cluster:
    """Return the GPUs that a training on GPUs would use.

    Raises:
        SettingsError: there is no GPU, or fewer than the options ask for, or the cluster does not answer.
    """
    if options.ray_address:
        return _find_remote_cluster(options)
    gpus, gpu_bytes = _count_own_gpus()
    if not gpus:
        raise SettingsError(
            "verl needs GPUs, and this machine has none that torch can use; give the address of a Ray cluster with "
            f"{FLAG} ray_address=HOST:6379, train with --trainer grpo, or rehearse with --device cpu (slow, for tests)"
        )
    if device.startswith("cuda:"):
        gpus = 1
    wanted = options.gpus_per_node or gpus
    if wanted > gpus:
        raise SettingsError(f"{FLAG} gpus_per_node={wanted}, and this machine has {gpus}; give a smaller number")
    return Cluster(1, wanted, gpu_bytes)


def _count_own_gpus() -> tuple[int, float]:
    import torch

    if not torch.cuda.is_available():
        return 0, 0.0
    count = torch.cuda.device_count()
    return count, float(min(torch.cuda.get_device_properties(index).total_memory for index in range(count)))


def _find_remote_cluster(options: TrainerOptions) -> Cluster:
    nodes = ask_cluster(options.ray_address, seconds=_RAY_SECONDS)
    with_gpus = sorted((int(node.gpus) for node in nodes if node.gpus >= 1), reverse=True)
    if len(with_gpus) < options.nodes:
        raise SettingsError(
            f"the Ray cluster at {options.ray_address} has {len(with_gpus)} nodes with GPUs (of {len(nodes)}), and "
            f"{FLAG} nodes={options.nodes}; add nodes (ray start --address={options.ray_address}), or give a smaller number"
        )
    smallest = with_gpus[options.nodes - 1]
    wanted = options.gpus_per_node or smallest
    if wanted > smallest:
        raise SettingsError(
            f"{FLAG} gpus_per_node={wanted} on {options.nodes} nodes, and the cluster at {options.ray_address} has such "
            f"numbers of GPUs: {', '.join(map(str, with_gpus))}; give a smaller number"
        )
    # Ray does not say how much memory a GPU has; a smaller one fails when verl loads the model.
    return Cluster(options.nodes, wanted, float(os.environ.get("DSRL_VERL_GPU_GB", "80")) * 1e9)
