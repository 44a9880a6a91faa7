"""What ``dsrl doctor`` says of this package."""

from __future__ import annotations

from dsrl import DsrlError, Finding
from dsrl.machine import list_gpus, read_free_memory
from dsrl_vllm.environment import PACKAGES, PIP_LINES, PROVEN, check_engine, choose_device, get_version
from dsrl_vllm.options import EngineOptions
from dsrl_vllm.settings import make_environment

#: Share of the memory that weights may take; the rest is for keys and values.
_SHARE = 0.7


def diagnose(options: EngineOptions) -> list[Finding]:
    """Say which package of vLLM this machine needs, whether it works, and how large a model may be.

    Args:
        options: the options of the sampler.
    """
    gpus = list_gpus()
    device = "cuda" if gpus else "cpu"
    found = {name: version for name in PACKAGES if (version := get_version(name)) is not None}
    if not found:
        what = f"{len(gpus)} GPU{'s' * (len(gpus) != 1)}" if gpus else "a CPU (slow: to try it out)"
        text = f"the package {PACKAGES[device]} is not installed; with it, vLLM answers on {what}"
        return [Finding("warning", text, PIP_LINES[device])]
    try:
        device = choose_device(options)
        check_engine(device, [], make_environment(options, device))
    except DsrlError as error:
        return [Finding("problem", str(error))]
    findings = [Finding("ok", f"{PACKAGES[device]} {found[device]} can be imported and finds the device {device}")]
    if device == "cpu":
        free = read_free_memory()
        if free is not None:
            findings.append(
                Finding("ok", f"answers with models of up to about {_count_billions(free, 4)} billion weights")
            )
        if gpus:
            text = "there are GPUs, and the package for a CPU is installed; in another environment, vLLM works on them"
            findings.append(Finding("note", text, PIP_LINES["cuda"]))
    else:
        smallest = min(gpu.total_bytes for gpu in gpus)
        text = f"answers with models of up to about {_count_billions(smallest, 2)} billion weights on a GPU"
        if len(gpus) > 1:
            text += f", and {_count_billions(smallest * len(gpus), 2)} on {len(gpus)} with tensor_parallel={len(gpus)}"
        findings.append(Finding("ok", text))
        findings.append(Finding("note", f"dsrl has not run vLLM {PROVEN} on GPUs itself"))
    return findings


def _count_billions(memory: int, itemsize: int) -> str:
    return f"{memory * _SHARE / itemsize / 1e9:.2g}"
