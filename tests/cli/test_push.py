"""``dsrl push`` against a stand-in of the hub's API, through the hub's own library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hub_stand_in import TOKEN, HubStandIn


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    # The stand-in has no chunk store; the library then sends large files by Git LFS.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with HubStandIn() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def test_a_model_and_its_data_go_to_the_hub_with_their_cards(
    dsrl: Any, small: Any, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dsrl("push", "small", "me/complaints").code == 1
    assert dsrl(*small, "--stop-after", "trained").code == 0
    folder = Path("runs/small/model")
    (folder / "optimizer.pt").write_bytes(b"not part of the model")

    outcome = dsrl("push", "small", "me/complaints", "--dry-run", "--json")
    plan = json.loads(outcome.out)
    assert plan["model"]["files"]["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert "optimizer.pt" not in plan["model"]["files"]
    assert "train.jsonl" in plan["dataset"]["files"]
    assert "train.jsonl" in dsrl("push", "small", "me/complaints", "--dry-run").out
    assert hub.repos == {}, "a dry run sends nothing"

    outcome = dsrl("push", "small", "me/complaints")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{hub.endpoint}/me/complaints\n{hub.endpoint}/datasets/me/complaints-data\n"
    assert hub.private == {"model me/complaints": True, "dataset me/complaints-data": True}
    sent = hub.repos["model me/complaints"]
    assert set(sent) == set(plan["model"]["files"])
    assert sent["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert b"trained on synthetic data with dsrl" in sent["README.md"]
    data = hub.repos["dataset me/complaints-data"]
    assert len(data["train.jsonl"].splitlines()) == 16
    assert b"# Training set of me/complaints" in data["README.md"]

    outcome = dsrl("push", "small", "me/complaints", "--no-data", "--json")
    assert json.loads(outcome.out) == {"addresses": [f"{hub.endpoint}/me/complaints"]}, "a second time is no error"

    hub.status = 403
    outcome = dsrl("push", "small", "me/complaints")
    assert (outcome.code, outcome.out) == (1, "")
    assert "the token may not write there" in " ".join(outcome.err.split())
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    outcome = dsrl("push", "small", "me/complaints")
    assert "it does not know the token" in " ".join(outcome.err.split())
    assert "hf_wrong" not in outcome.err


def test_a_wrong_name_is_refused(dsrl: Any, small: Any, hub: HubStandIn) -> None:
    assert dsrl(*small, "--stop-after", "keywords").code == 0
    for repo in ("complaints", "me/../x", "me/a b", "me/x/y", "/x"):
        outcome = dsrl("push", "small", repo)
        assert outcome.code == 2
        assert "is not the name of a repository; write USER/NAME" in " ".join(outcome.err.split())


def test_a_run_without_a_model_and_a_hub_without_a_token(
    dsrl: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dsrl(*small, "--stop-after", "keywords").code == 0
    outcome = dsrl("push", "small", "me/x")
    assert "has no trained model yet; finish it with its own command first" in " ".join(outcome.err.split())
