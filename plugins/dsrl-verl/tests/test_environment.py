"""Which environments and clusters are refused, and what the error says."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
from dsrl_verl import environment
from dsrl_verl.environment import check_cpu_memory, check_packages, find_cluster
from dsrl_verl.options import parse_options

from dsrl import DsrlError, SettingsError


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that pretends which packages are installed; the real ones cannot be in one environment."""

    def pretend(version: str | None, *packages: str) -> None:
        def get_version(name: str) -> str:
            if version is None:
                raise environment.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(environment, "version", get_version)
        monkeypatch.setattr(environment, "find_spec", lambda name: SimpleNamespace() if name in packages else None)

    return pretend


NEEDED = ("ray", "hydra", "transfer_queue", "peft")


@pytest.mark.parametrize(
    ("version", "packages", "words"),
    [
        (None, NEEDED, "pip install dsrl-verl"),
        ("0.9.2", NEEDED, "verl 0.9.2 is installed, .* pip install verl==0.9.1"),
        ("0.9.1", (*NEEDED, "trl"), "pip uninstall trl"),
        ("0.9.1", NEEDED[1:], "verl needs ray"),
    ],
)
def test_packages_that_do_not_fit(install: Any, version: str | None, packages: tuple[str, ...], words: str) -> None:
    install(version, *packages)
    with pytest.raises(DsrlError, match=words):
        check_packages("vllm", is_cpu=True)


def test_the_engine_is_needed_on_gpus_only(install: Any) -> None:
    install("0.9.1", *NEEDED)
    check_packages("vllm", is_cpu=True)
    with pytest.raises(DsrlError, match=r"pip install 'verl\[vllm\]==0.9.1'.*--device cpu"):
        check_packages("vllm", is_cpu=False)
    install("0.9.1", *NEEDED, "vllm")
    check_packages("vllm", is_cpu=False)
    check_packages("vllm", is_cpu=True, has_critic=True)
    with pytest.raises(DsrlError, match="pip install flash-attn"):
        check_packages("vllm", is_cpu=False, has_critic=True)


def test_a_model_too_big_for_the_memory_is_refused_with_what_fits() -> None:
    check_cpu_memory(1000, has_adapters=False, has_critic=True)
    with pytest.raises(SettingsError, match=r"GB are free, enough for .* --trainer grpo"):
        check_cpu_memory(10**13, has_adapters=False, has_critic=False)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make test-verl")
def test_a_cluster_with_too_few_gpus(head: str) -> None:
    cluster = find_cluster(parse_options({"ray_address": head}), "auto")
    assert (cluster.nodes, cluster.gpus_per_node) == (1, 2)
    with pytest.raises(SettingsError, match="has 1 nodes with GPUs"):
        find_cluster(parse_options({"ray_address": head, "nodes": 2}), "auto")
    with pytest.raises(SettingsError, match=r"gpus_per_node=4 on 1 nodes, and .* 2; give a smaller number"):
        find_cluster(parse_options({"ray_address": head, "gpus_per_node": 4}), "auto")
