"""The retriever keeps the contract of retrievers."""

from __future__ import annotations

from dsrl.testing import GrowingRetrieverContract


class TestBM25(GrowingRetrieverContract):
    plugin = "bm25"
    searches = (*GrowingRetrieverContract.searches, (["coughing"], "cough"), (["\u8840\u5727"], "odd"))
