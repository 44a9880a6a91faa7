"""A local Ray gets the time that a busy machine needs."""

from __future__ import annotations

import pytest
from dsrl_verl.driver import be_patient_with_ray


def test_a_node_that_is_not_there_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    services = pytest.importorskip("ray._private.services", reason="Ray is not installed: make test-verl")
    utils = pytest.importorskip("ray._private.utils")
    asked = []

    def get_node(*arguments: str) -> str:
        asked.append(arguments)
        if len(asked) < 3:
            raise RuntimeError("GCS cannot find the node")
        return "node"

    monkeypatch.setenv("RAY_agent_register_timeout_ms", "1")  # the user's own stays
    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(utils, "get_dashboard_dependency_error", utils.get_dashboard_dependency_error)
    be_patient_with_ray()
    assert services.get_node("address", "id") == "node"
    assert asked == [("address", "id")] * 3
    assert utils.get_dashboard_dependency_error()
