"""What `dsrl doctor` says of the trainer verl."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from dsrl_verl import diagnosis
from dsrl_verl.layout import Cluster
from dsrl_verl.options import parse_options

from dsrl import DsrlError, Finding, PluginRef, SettingsError, load
from dsrl.plugins.base_models import resolve_model


def diagnose(model: str = "", **options: Any) -> list[Finding]:
    return diagnosis.diagnose(parse_options(options), model)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that pretends that verl is installed, with GPUs or without."""

    def pretend(cluster: Cluster | None, *packages: str) -> None:
        monkeypatch.setattr(diagnosis, "check_packages", lambda engine, is_cpu: None)
        monkeypatch.setattr(diagnosis, "version", lambda name: "1")
        monkeypatch.setattr(diagnosis, "find_spec", lambda name: name if name in packages else None)
        monkeypatch.setattr(diagnosis, "list_gpus", lambda: [] if cluster is None else [None] * cluster.gpus)
        monkeypatch.setattr(diagnosis, "find_cluster", lambda options, device: cluster)

    return pretend


def test_packages_that_do_not_fit_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(engine: str, is_cpu: bool) -> None:
        raise DsrlError("verl is not installed; pip install dsrl-verl")

    monkeypatch.setattr(diagnosis, "check_packages", refuse)
    assert diagnose() == [Finding("problem", "verl is not installed; pip install dsrl-verl")]


def test_without_a_gpu_verl_is_a_rehearsal(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(None)
    installed, note = diagnose()
    assert (installed.level, note.level) == ("ok", "note")
    assert "--device cpu" in note.text
    assert "--trainer grpo" in note.text
    tiny = str(resolve_model("tiny").location)
    assert diagnose(tiny)[-1] == Finding("ok", f"the model {tiny} fits into the memory")

    def refuse(weights: int, has_adapters: bool, has_critic: bool) -> None:
        raise SettingsError("too large")

    monkeypatch.setattr(diagnosis, "check_cpu_memory", refuse)
    assert diagnose(tiny)[-1] == Finding("warning", "too large")


def test_gpus_decide_which_models_fit(machine: Any) -> None:
    machine(Cluster(1, 8, 80e9), "vllm", "flash_attn")
    assert "8 GPUs: trains models of up to about 72 billion weights" in diagnose()[1].text
    machine(Cluster(2, 1, 8e9))
    _, engine, attention, sizes = diagnose()
    assert (engine.level, engine.mend) == ("warning", "pip install 'verl[vllm]==0.9.1'")
    assert (attention.level, attention.mend) == ("note", "pip install flash-attn --no-build-isolation")
    assert "2 nodes with 1 GPU: " in sizes.text
    tiny = str(resolve_model("tiny").location)
    assert diagnose(tiny)[-1].text == f"the model {tiny} fits with tensor_parallel=1"
    machine(Cluster(1, 1, 1e6), "vllm")
    assert "less than half a billion" in diagnose()[-1].text
    assert diagnose(tiny)[-1].level == "problem"


def test_a_model_or_a_cluster_that_cannot_be_used_is_a_problem(machine: Any, tmp_path: Any) -> None:
    machine(None)
    assert diagnose(str(tmp_path))[-1].level == "problem"


@pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make test-verl")
def test_the_real_verl() -> None:
    findings = load(PluginRef("trainer", "verl", {}), "trainer").hook.diagnose(model="")
    assert findings[0].level == "ok"
    assert findings[0].text.startswith("verl 0.9.1 and Ray ")
    assert not [finding for finding in findings if finding.level == "problem"]
    (closed,) = load(PluginRef("trainer", "verl", {"ray_address": "127.0.0.1:9"}), "trainer").hook.diagnose(model="")[
        1:
    ]
    assert closed.level == "problem"
    assert "nothing answers at the Ray address" in closed.text
