"""The process that asks a cluster; see :mod:`dsrl_ray.cluster`. It reads a job from stdin and writes a list of nodes."""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    """Answer the job on stdin."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from dsrl_ray.cluster import Node, choose_gpus
    from dsrl_ray.options import RayOptions

    job = json.load(sys.stdin)
    ray.init(address=job["address"], log_to_driver=False, logging_level="ERROR")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    questions = {}
    if job["options"] is not None:
        options = RayOptions(**job["options"])
        gpus = choose_gpus(options, [Node(*_describe_node(node, "")) for node in nodes])
        check = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=0)(check_node)
        for node in nodes:
            if node["Resources"].get("GPU", 0) >= gpus:
                strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                question = check.options(scheduling_strategy=strategy)
                questions[node["NodeID"]] = question.remote(options.ref, job["prompts"], job["max_tokens"])
    answers = {}
    for key, question in questions.items():
        try:
            answers[key] = ray.get(question, timeout=job["seconds"])
        except ray.exceptions.GetTimeoutError:
            answers[key] = f"its check did not end within {job['seconds']:g} s; perhaps all of its GPUs are in use"
        except Exception as error:  # noqa: BLE001 - whatever Ray or the node raises
            answers[key] = _describe(error)
    print("\n" + json.dumps([_describe_node(node, answers.get(node["NodeID"], "")) for node in nodes]))


def check_node(ref: Any, prompts: list[Any], max_tokens: int) -> str:
    """Check the sampler on this node; return what is wrong, or an empty text."""
    from dsrl import DsrlError, Prompt, load

    try:
        plugin = load(ref, "sampler")
        if plugin.implements("check"):
            plugin.hook.check(prompts=[Prompt(*prompt) for prompt in prompts], max_tokens=max_tokens)
    except DsrlError as error:
        return str(error)
    return ""


def _describe_node(node: dict[str, Any], fault: str) -> list[Any]:
    resources = node["Resources"]
    return [node["NodeManagerAddress"], resources.get("CPU", 0), resources.get("GPU", 0), fault[:1000]]


def _describe(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if "No module named" in str(error):
        missing = next((line for line in reversed(lines) if "No module named" in line), lines[-1])
        return f"{missing}; install the same packages on every node (dsrl, dsrl-ray, the sampler)"
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
