"""Batches of the teacher ``openai`` behind the ledger, against the fake server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsrl.errors import TeacherError
from dsrl.teaching.reply_store import read_spending
from dsrl.testing.contracts.batches import BatchLines, BatchTeacherContract
from dsrl.testing.fault_server import FaultServer, completion, openai_error

_EXPIRED = {"code": "batch_expired", "message": "This request could not be executed before the window expired."}


class TestOpenAIBatches(BatchTeacherContract):
    plugin, model, tokens = "openai", "gpt-4o", 110
    places = ("upload", "create")
    lines = BatchLines(
        refused={"status_code": 200, "body": completion([""], refusal="no")},
        filtered={"status_code": 400, "body": openai_error("flagged", "content_filter")},
        bad={"status_code": 400, "body": openai_error("messages[0] is odd")},
        failed={"status_code": 500, "body": openai_error("boom", error_type="server_error")},
        expired={"error": _EXPIRED},
        cancelled={"error": {"code": "batch_cancelled", "message": "This request was not executed."}},
        setting={
            "status_code": 400,
            "body": openai_error("Unsupported value", "unsupported_value", param="temperature"),
        },
    )

    def has_setting(self, line: Any) -> bool:
        return "temperature" in line["body"]

    def test_a_batch_that_fails_costs_nothing(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_statuses = ["failed"]
        outcome = self.complete_all(server, path, 2)
        assert all(isinstance(each, TeacherError) and "line 1 is no JSON" in str(each) for each in outcome)
        spent = read_spending(path, "run")
        assert (spent.calls, spent.uncertain_usd) == (0, 0)
        assert all(not isinstance(each, Exception) for each in self.complete_all(server, path, 2))
        assert self.count_lines(server) == [2, 2]
