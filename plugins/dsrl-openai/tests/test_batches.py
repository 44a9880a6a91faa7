"""Batches of the teacher ``openai`` behind the ledger, against the fake server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsrl.errors import TeacherError
from dsrl.teaching.reply_store import spending_of
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
        failed={"status_code": 500, "body": openai_error("boom", type="server_error")},
        expired={"error": _EXPIRED},
        cancelled={"error": {"code": "batch_cancelled", "message": "This request was not executed."}},
        setting={
            "status_code": 400,
            "body": openai_error("Unsupported value", "unsupported_value", param="temperature"),
        },
    )

    def takes(self, line: Any) -> bool:
        return "temperature" in line["body"]

    def test_a_batch_that_fails_costs_nothing(self, server: FaultServer, tmp_path: Path) -> None:
        path = tmp_path / "calls.db"
        server.batch_statuses = ["failed"]
        outcome = self.asking(server, path, 2)
        assert all(isinstance(each, TeacherError) and "line 1 is no JSON" in str(each) for each in outcome)
        spent = spending_of(path, "run")
        assert (spent.calls, spent.uncertain_usd) == (0, 0)
        assert all(not isinstance(each, Exception) for each in self.asking(server, path, 2))
        assert self.sizes(server) == [2, 2]
