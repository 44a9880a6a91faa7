"""What ``dsrl doctor`` says of this package."""

from __future__ import annotations

from importlib.metadata import version

from dsrl import DsrlError, Finding
from dsrl_ray.cluster import Node, ask_cluster, choose_gpus, count_workers, look_at_machine
from dsrl_ray.options import RayOptions


def diagnose(options: RayOptions) -> list[Finding]:
    """Say which cluster would be used, what it has, and whether the sampler can work on its nodes.

    Args:
        options: the options of the sampler.
    """
    findings = [Finding("ok", f"Ray {version('ray')} is installed")]
    try:
        if options.ray_address:
            nodes = ask_cluster(options.ray_address, options if options.model else None)
            where = f"the Ray cluster at {options.ray_address}"
        else:
            nodes, where = (
                [look_at_machine()],
                "a Ray of this machine (a cluster is looked at with --ray-address HOST:PORT)",
            )
        count = count_workers(options, nodes)
    except DsrlError as error:
        return [*findings, Finding("problem", str(error))]
    gpus = choose_gpus(options, nodes)
    kind = f"{gpus} GPU{'s' * (gpus != 1)} each" if gpus else "no GPU"
    findings.append(Finding("ok", f"{where}: {_describe(nodes)}; {count} workers with {kind}"))
    findings += [
        Finding("warning", f"the sampler {options.sampler} cannot work on the node {node.address}: {node.fault}")
        for node in nodes
        if node.fault
    ]
    return findings


def _describe(nodes: list[Node]) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)}, {cpus:g} CPUs, {gpus:g} GPUs"
