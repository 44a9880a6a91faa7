from __future__ import annotations

from pathlib import Path

import pytest
from dsrl_transformers import diagnosis
from dsrl_transformers.grpo import GRPOTrainer
from dsrl_transformers.sft import SFTTrainer


@pytest.mark.parametrize(
    ("gigabytes", "words"),
    [
        (1, "of less than half a billion weights, and with --lora-rank 16 of less than half a billion weights"),
        (40, "of up to about 1.5 billion weights, and with --lora-rank 16 of up to about 14 billion weights"),
        (2000, "of up to about 32 billion weights, and with --lora-rank 16 of up to about 32 billion weights"),
    ],
)
def test_the_sizes_that_fit_follow_from_the_memory(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float, words: str
) -> None:
    monkeypatch.setattr(diagnosis, "read_available_memory", lambda device: int(gigabytes * 1e9))
    monkeypatch.setattr(diagnosis, "read_capacity", lambda device: int(gigabytes * 1e9))
    texts = [finding.text for finding in diagnosis.diagnose_training("")]
    assert any(words in text for text in texts), texts


def test_a_training_without_a_kl_term_has_room_for_a_larger_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "read_available_memory", lambda device: int(68e9))
    monkeypatch.setattr(diagnosis, "read_capacity", lambda device: int(68e9))
    sizes = [
        text.partition(" billion")[0]
        for trainer in (GRPOTrainer(), SFTTrainer())
        for text in [finding.text for finding in trainer.diagnose("")]
        if text.startswith("trains all weights")
    ]
    assert sizes == [f"trains all weights of models of up to about {size}" for size in ("1.5", "3")]


def test_a_model_is_looked_at(model_dir: Path, tmp_path: Path) -> None:
    assert diagnosis.diagnose_sampling(str(model_dir))[-1].level == "ok"
    finding = diagnosis.diagnose_sampling(str(tmp_path))[-1]
    assert finding.level == "problem"
    assert str(tmp_path) in finding.text
