"""What a Ray cluster has, and whether its nodes can run the sampler. A process of its own asks it.

A client of Ray that cannot connect may wait for ever or end its process, so it is not this process that tries first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

from dsrl import DsrlError, Prompt, SettingsError
from dsrl.machine import count_cpus, list_gpus
from dsrl_ray.connection import choose_token, refuse_closed_port
from dsrl_ray.options import FLAG, RayOptions

#: Seconds that a cluster may take to answer, checks on its nodes included.
ANSWER_SECONDS = 240.0
#: Workers of a node without GPUs, at most, if the user does not say how many there are.
_MOST_ON_A_CPU_NODE = 4


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive.

    Attributes:
        address: its IP address.
        cpus, gpus: what Ray may use of it.
        fault: why the sampler cannot work there; empty if it can.
    """

    address: str
    cpus: float
    gpus: float
    fault: str = ""


def ask_cluster(
    address: str,
    options: RayOptions | None = None,
    prompts: Sequence[Prompt] = (),
    max_tokens: int = 0,
    seconds: float = ANSWER_SECONDS,
) -> list[Node]:
    """Return the living nodes of a cluster.

    Args:
        address: the address of the cluster.
        options: the sampler to check on each node that has the GPUs for a worker; None: none.
        prompts, max_tokens: for the check; see the hook ``check`` of samplers.
        seconds: time that it may take.

    Raises:
        SettingsError: the cluster does not answer in time, asks for another token, or has another version of Ray.
    """
    refuse_closed_port(address)
    job = {
        "address": address,
        "options": None if options is None else asdict(options),
        "prompts": [[str(prompt), prompt.system, prompt.is_chat] for prompt in prompts],
        "max_tokens": max_tokens,
        "seconds": seconds / 2,
    }
    code = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from dsrl_ray.probe import main; main()"
    try:
        asked = subprocess.run(
            [sys.executable, "-c", code, json.dumps(sys.path)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **choose_token(address)},
        )
        lines = asked.stdout.strip().splitlines() if asked.returncode == 0 else []
        return [Node(*values) for values in json.loads(lines[-1])]
    except subprocess.TimeoutExpired:
        reason = f"no answer within {seconds:g} s"
    except (IndexError, ValueError, TypeError):
        reason = (asked.stderr.strip().splitlines() or ["it answered with something that is no list of nodes"])[-1]
        if "InvalidAuthToken" in asked.stderr:
            reason = "it asks for another token than this machine has; copy ~/.ray/auth_token of its head"
    raise SettingsError(
        f"the Ray cluster at {address} cannot be used: {reason[:300]}; check `ray status --address {address}`, and that its "
        f"versions of Ray and Python are those of this environment (Ray {version('ray')}, Python {sys.version.split()[0]})"
    )


def look_at_machine() -> Node:
    """Return this machine as a node that does not run yet."""
    return Node("this machine", count_cpus(), len(list_gpus()))


def choose_gpus(options: RayOptions, nodes: Sequence[Node]) -> int:
    """Return the number of GPUs of a worker."""
    if options.gpus >= 0:
        return options.gpus
    if str(options.inner.get("device", "")).startswith("cpu") or not any(node.gpus >= 1 for node in nodes):
        return 0
    wanted = options.inner.get("tensor_parallel", 1)
    return wanted if isinstance(wanted, int) and wanted > 0 else 1


def count_workers(options: RayOptions, nodes: Sequence[Node]) -> int:
    """Return the number of workers: as many as there is room for, or as the user wants.

    Raises:
        SettingsError: there is no room for one, or for as many as the user wants.
        DsrlError: the sampler can work on no node.
    """
    gpus = choose_gpus(options, nodes)
    sound = [node for node in nodes if not node.fault]
    rooms = [_count_room(options, gpus, node) for node in sound]
    fault = next((f"{node.address}: {node.fault}" for node in nodes if node.fault), "")
    if not sum(rooms):
        if fault:
            raise DsrlError(f"the sampler {options.sampler} cannot work on any node of the Ray cluster; {fault}")
        largest = max((node.gpus for node in nodes), default=0)
        need = f"{gpus} GPUs and {options.cpus} CPUs"
        flags = f"{FLAG} gpus={int(largest)}" if gpus else f"{FLAG} cpus=1"
        raise SettingsError(
            f"a worker needs {need} of one node, and the Ray cluster has {_describe(nodes)}; give {flags} (for vllm also a "
            f"smaller {FLAG} set.tensor_parallel), or --device cpu, or add nodes"
        )
    if options.actors > sum(rooms):
        raise SettingsError(
            f"{FLAG} actors={options.actors}, and the Ray cluster ({_describe(nodes)}) has room for {sum(rooms)} with "
            f"{gpus} GPUs and {options.cpus} CPUs each{f' ({fault})' if fault else ''}; give a smaller number"
        )
    return options.actors or sum(room if gpus else min(room, _MOST_ON_A_CPU_NODE) for room in rooms)


def _count_room(options: RayOptions, gpus: int, node: Node) -> int:
    rooms = [int(node.gpus) // gpus] if gpus else []
    if options.cpus:
        rooms.append(int(node.cpus) // options.cpus)
    return min(rooms, default=_MOST_ON_A_CPU_NODE)


def _describe(nodes: Sequence[Node]) -> str:
    parts = [f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes]
    return "; ".join(parts) if parts else "no node"
