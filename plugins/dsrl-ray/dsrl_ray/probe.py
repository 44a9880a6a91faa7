"""The process that asks a cluster; see :mod:`dsrl_ray.cluster`. It reads a job from stdin and writes a list of nodes."""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    """Answer the job on stdin."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    job = json.load(sys.stdin)
    ray.init(address=job["address"], log_to_driver=False, logging_level="ERROR")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    check = ray.remote(num_cpus=0, max_retries=0)(check_node)
    questions = {}
    for node in nodes:
        if job["sampler"] is not None and node["Resources"].get("GPU", 0) >= job["gpus"]:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {"scheduling_strategy": strategy, "num_gpus": job["gpus"]}
            questions[node["NodeID"]] = check.options(**options).remote(job)
    answers = {}
    for key, question in questions.items():
        try:
            answers[key] = ray.get(question, timeout=job["seconds"])
        except ray.exceptions.GetTimeoutError:
            answers[key] = f"its check did not end within {job['seconds']:g} s; perhaps all of its GPUs are in use"
        except Exception as error:  # noqa: BLE001 - whatever Ray or the node raises
            answers[key] = _describe(error)
    print("\n" + json.dumps([_describe_node(node, answers.get(node["NodeID"], "")) for node in nodes]))


def check_node(job: dict[str, Any]) -> str:
    """Check the sampler on this node; return what is wrong, or an empty text."""
    from dsrl import DsrlError, PluginRef, Prompt, load

    name, options = job["sampler"]
    try:
        plugin = load(PluginRef("sampler", name, options), "sampler")
        if plugin.implements("check"):
            prompts = [Prompt(text, system, is_chat) for text, system, is_chat in job["prompts"]]
            plugin.hook.check(prompts=prompts, max_tokens=job["max_tokens"])
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
