"""The retriever keeps the contract of retrievers, with the real Lucene."""

from __future__ import annotations

import pytest

from dsrl.testing import GrowingRetrieverContract

pytest.importorskip("jnius_config", reason="make test-retrieval installs Java and Anserini")


class TestPyserini(GrowingRetrieverContract):
    plugin = "pyserini"
    searches = (*GrowingRetrieverContract.searches, (["coughing"], "cough"), (["\u8840\u5727"], "odd"))
