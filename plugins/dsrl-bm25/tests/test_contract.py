"""The retriever keeps the contract of retrievers."""

from __future__ import annotations

from dsrl.testing import RetrieverContract


class TestBM25(RetrieverContract):
    plugin = "bm25"
    searches = (*RetrieverContract.searches, (["coughing"], "cough"), (["\u8840\u5727"], "odd"))
