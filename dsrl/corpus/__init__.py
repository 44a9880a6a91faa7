"""Passage libraries: the reader, and the index that a retriever builds of them."""
