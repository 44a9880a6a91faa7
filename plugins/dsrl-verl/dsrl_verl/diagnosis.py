"""What ``dsrl doctor`` says of this package."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from dsrl import DsrlError, Finding, SettingsError
from dsrl.machine import list_gpus
from dsrl_verl.environment import PROVEN_VERL, check_cpu_memory, check_packages, find_cluster
from dsrl_verl.layout import Cluster, choose_layout
from dsrl_verl.options import TrainerOptions

#: Billions of weights of usual models.
_SIZES = (0.5, 1.5, 3.0, 7.0, 14.0, 32.0, 72.0)


def diagnose(options: TrainerOptions, model: str) -> list[Finding]:
    """Say whether verl can be used, on which GPUs, and which sizes of models it can train there.

    Args:
        options: the options of the trainer.
        model: a model to look at; may be empty.
    """
    try:
        check_packages(options.engine, is_cpu=True)
    except DsrlError as error:
        return [Finding("problem", str(error))]
    findings = [Finding("ok", f"verl {version('verl')} and Ray {version('ray')} are installed")]
    try:
        weights = _count_weights(model)
        if not options.ray_address and not list_gpus():
            return findings + _look_at_cpu(weights, model)
        cluster = find_cluster(options, "auto")
    except DsrlError as error:
        return [*findings, Finding("problem", str(error))]
    return findings + _look_at_engine(options) + _look_at_gpus(cluster, weights, model)


def _count_weights(model: str) -> int | None:
    from dsrl_transformers.model_files import check_model

    return check_model(model).weights if model else None


def _look_at_cpu(weights: int | None, model: str) -> list[Finding]:
    text = (
        "this machine has no GPU, so verl can only rehearse a run, slowly (--device cpu); a cluster is looked at with "
        "--ray-address HOST:PORT, and --trainer grpo trains on this machine"
    )
    findings = [Finding("note", text)]
    if weights is not None:
        try:
            check_cpu_memory(weights, has_adapters=False, has_critic=False)
        except SettingsError as error:
            return [*findings, Finding("warning", str(error))]
        findings.append(Finding("ok", f"the model {model} fits into the memory"))
    return findings


def _look_at_engine(options: TrainerOptions) -> list[Finding]:
    findings = []
    engine = options.engine
    if find_spec(engine) is None:
        text = f"verl answers with {engine} on GPUs, which is not installed"
        findings.append(Finding("warning", text, f"pip install 'verl[{engine}]=={PROVEN_VERL}'"))
    if find_spec("flash_attn") is None:
        text = "PPO (--trainer-option algorithm=ppo) needs flash attention for its critic; GRPO does not"
        findings.append(Finding("note", text, "pip install flash-attn --no-build-isolation"))
    return findings


def _look_at_gpus(cluster: Cluster, weights: int | None, model: str) -> list[Finding]:
    nodes = f"{cluster.nodes} nodes with " if cluster.nodes > 1 else ""
    gpus = f"{nodes}{cluster.gpus_per_node} GPU{'s' * (cluster.gpus_per_node != 1)}"
    text = f"{gpus}: trains models of {_find_largest(cluster)} (reckoned, not measured)"
    findings = [Finding("ok", text)]
    if weights is not None:
        try:
            layout = choose_layout(weights, cluster)
        except SettingsError as error:
            return [*findings, Finding("problem", str(error))]
        findings.append(Finding("ok", f"the model {model} fits with tensor_parallel={layout.tensor_parallel}"))
    return findings


def _find_largest(cluster: Cluster) -> str:
    largest = "less than half a billion weights"
    for billions in _SIZES:
        try:
            choose_layout(int(billions * 1e9), cluster)
        except SettingsError:
            break
        largest = f"up to about {billions:g} billion weights"
    return largest
