"""Which layout of verl a model gets on a cluster: how it is split, and what is kept in the host's memory.

For a model of ``P`` weights on ``N`` GPUs, of which ``T`` answer together, in bytes a GPU:

    training    16 P / N: weights, gradients and AdamW's two moments in float32; twice that with the critic of PPO;
                4 P / N with adapters, whose own weights are few
    activations a quarter of the memory
    answering   2 P / T: the weights in bfloat16, and a tenth of the memory for keys and values

verl trains and answers in turn. What is kept for the training while the model answers can be moved to the host's memory
(``moved``), and the optimizer can work there (``host``), which is slow. **These numbers were not measured on GPUs.**
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dsrl import SettingsError

Offload = Literal["none", "moved", "host"]

#: Share of a GPU's memory that is used at all, and the shares for activations, for keys and values, and at most for the
#: weights of the engine that answers.
_USED, _ACTIVATIONS, _CACHE, _ENGINE_WEIGHTS = 0.9, 0.25, 0.1, 0.35
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Cluster:
    """The GPUs that a training uses.

    Attributes:
        nodes: number of nodes.
        gpus_per_node: number of GPUs of each node.
        gpu_bytes: memory of one GPU.
    """

    nodes: int
    gpus_per_node: int
    gpu_bytes: float

    @property
    def gpus(self) -> int:
        """All GPUs."""
        return self.nodes * self.gpus_per_node


@dataclass(frozen=True, slots=True)
class Layout:
    """How verl places a model.

    Attributes:
        tensor_parallel: number of GPUs that answer together.
        offload: what is in the host's memory while the model answers (``moved``), or always (``host``).
        engine_memory: share of a GPU's memory for the engine that answers.
    """

    tensor_parallel: int
    offload: Offload
    engine_memory: float


def choose_layout(
    weights: int, cluster: Cluster, *, has_adapters: bool = False, has_critic: bool = False, tensor_parallel: int = 0
) -> Layout:
    """Choose the layout with the least traffic that fits.

    Args:
        weights: number of weights of the model.
        cluster: the GPUs.
        has_adapters: whether only LoRA adapters are trained.
        has_critic: whether a critic of the same size is trained (PPO).
        tensor_parallel: number of GPUs that answer together; 0 chooses it.

    Raises:
        SettingsError: the model does not fit, or the GPUs cannot be divided so; the text says what would work.
    """
    parts = _list_parts(cluster.gpus_per_node)
    if tensor_parallel and tensor_parallel not in parts:
        raise SettingsError(
            f"--trainer-option tensor_parallel={tensor_parallel} does not divide the {cluster.gpus_per_node} GPUs of a "
            f"node; give {' or '.join(map(str, parts))}"
        )
    engine_room = _ENGINE_WEIGHTS * cluster.gpu_bytes
    fitting = [part for part in parts if 2 * weights / part <= engine_room]
    if not tensor_parallel and fitting:
        tensor_parallel = fitting[0]
    engine = 2 * weights / tensor_parallel if tensor_parallel else float("inf")
    states = _get_state_bytes(weights, has_adapters, has_critic) / cluster.gpus
    used, cache = _USED * cluster.gpu_bytes, _CACHE * cluster.gpu_bytes
    activations = _ACTIVATIONS * cluster.gpu_bytes
    if engine + cache <= used:
        if states + max(engine + cache, activations) <= used:
            return Layout(tensor_parallel, "none", _round_share((used - states) / cluster.gpu_bytes))
        if states + activations <= used:
            return Layout(tensor_parallel, "moved", 0.6 if engine + cache <= 0.6 * cluster.gpu_bytes else _USED)
        if not has_critic and states <= 4 * used:
            return Layout(tensor_parallel, "host", 0.6 if engine + cache <= 0.6 * cluster.gpu_bytes else _USED)
    raise SettingsError(
        f"a model of {weights / 1e9:.2g} billion weights does not fit on {_describe(cluster)}; "
        f"{_advise(weights, cluster, has_adapters, has_critic)}"
    )


def count_needed_gpus(weights: int, gpu_bytes: float, has_adapters: bool = False, has_critic: bool = False) -> int:
    """Return the smallest power of two of GPUs on which a training fits without the host's memory."""
    count = 1
    states = _get_state_bytes(weights, has_adapters, has_critic)
    while states / count + _ACTIVATIONS * gpu_bytes > _USED * gpu_bytes or 2 * weights / count > _USED * gpu_bytes:
        count *= 2
    return count


def _get_state_bytes(weights: int, has_adapters: bool, has_critic: bool) -> float:
    actor = (4 if has_adapters else 16) * weights
    return actor + (16 * weights if has_critic else 0)


def _list_parts(gpus: int) -> list[int]:
    return [part for part in (1, 2, 4, 8, 16) if part <= gpus and gpus % part == 0]


def _round_share(share: float) -> float:
    """Round down to a twentieth; at most 0.6, because verl needs some memory between training and answering."""
    return min(0.6, int(share * 20) / 20)


def _advise(weights: int, cluster: Cluster, has_adapters: bool, has_critic: bool) -> str:
    advice = [
        f"{count_needed_gpus(weights, cluster.gpu_bytes, has_adapters, has_critic)} of these GPUs would be enough"
    ]
    if not has_adapters:
        count = count_needed_gpus(weights, cluster.gpu_bytes, True, has_critic)
        advice.append(f"with --lora-rank 32 {count}")
    if has_critic:
        count = count_needed_gpus(weights, cluster.gpu_bytes, has_adapters)
        advice.append(f"with --trainer-option algorithm=grpo {count}")
    return ", ".join(advice)


def _describe(cluster: Cluster) -> str:
    gpus = f"{cluster.gpus_per_node} GPU{'s' * (cluster.gpus_per_node != 1)} of {cluster.gpu_bytes / _GB:.0f} GB"
    return gpus if cluster.nodes == 1 else f"{cluster.nodes} nodes with {gpus} each"
