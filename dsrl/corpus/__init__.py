"""Passage libraries: the reader, and the index that a retriever makes of them."""
