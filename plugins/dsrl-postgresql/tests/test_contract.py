"""The retriever keeps the contract of retrievers, with a real server."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.testing import GrowingRetrieverContract


class TestPostgreSQL(GrowingRetrieverContract):
    plugin = "postgresql"
    searches = (*GrowingRetrieverContract.searches, (["coughing"], "cough"), (["\u8840\u5727"], "odd"))

    @pytest.fixture
    def settings(self, server: Any) -> dict[str, str]:
        return {"dsn": server.dsn}

    options = settings
