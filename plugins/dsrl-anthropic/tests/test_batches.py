"""Batches of the teacher ``anthropic`` behind the ledger, against the fake server."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from dsrl.testing.contracts.batches import BatchLines, BatchTeacherContract, get_texts
from dsrl.testing.fault_server import Fault, FaultServer, anthropic_error, message


def make_error_row(text: str, error_type: str = "invalid_request_error") -> object:
    return {"type": "errored", "error": anthropic_error(text, error_type)}


class TestAnthropicBatches(BatchTeacherContract):
    plugin, model, tokens = "anthropic", "claude-haiku-4-5", 105
    places = ("create",)
    lines = BatchLines(
        refused={"type": "succeeded", "message": message("", stop="refusal")},
        filtered=make_error_row("Output blocked by content filtering policy"),
        bad=make_error_row("messages.0 is odd"),
        failed=make_error_row("boom", "api_error"),
        expired={"type": "expired"},
        cancelled={"type": "canceled"},
        setting=make_error_row("output_config.format: this model does not support structured outputs"),
    )

    def has_setting(self, line: Any) -> bool:
        return "output_config" in line["params"]

    def get_address(self, server: FaultServer) -> str:
        return server.root

    @pytest.fixture(autouse=True)
    def look_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dsrl_anthropic.teacher.LOOK_SECONDS", 0.02)

    def test_a_batch_whose_name_shows_only_at_its_end_is_waited_for(
        self, server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.batch_status = "in_progress"
        server.batch_faults["create"].append(Fault(how="lost"))
        timer = threading.Timer(0.5, lambda: setattr(server, "batch_status", "completed"))
        timer.start()
        with caplog.at_level(logging.WARNING):
            assert len(get_texts(self.complete_all(server, tmp_path / "calls.db", 2))) == 2
        timer.join()
        assert self.count_lines(server) == [2]
        assert server.calls["list"] > 2
        assert caplog.text.count("may be the right one") == 1

    def test_the_end_of_a_sitting_does_not_wait_for_it(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_status = "in_progress"
        server.batch_faults["create"].append(Fault(how="lost"))
        self.stop_session(server, path, 2, "list")
        self.stop_session(server, path, 2, "list")
        server.batch_status = "completed"
        assert len(get_texts(self.complete_all(server, path, 2))) == 2
        assert self.count_lines(server) == [2]
