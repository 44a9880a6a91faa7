"""Limits of batches: how long dsrl gathers requests, how large a batch may be, and how often dsrl asks about it."""

from __future__ import annotations

#: Seconds without a new request after which the gathered requests are submitted.
WINDOW = 1.0
#: Requests in a batch, at most.
MAX_REQUESTS = 10_000
#: Bytes of a batch, at most; OpenAI takes 200 MB, Anthropic 256 MB.
MAX_BYTES = 150_000_000
#: Bytes that a provider's format adds to a request, at most: numbers, names, addresses.
BYTES_PER_REQUEST = 2048
#: Seconds between two polls of a batch: the first pause, and the longest.
POLL_PAUSES = (5.0, 60.0)
#: Batches that a request is put into before it is given up.
MAX_BATCHES = 3
#: Searches for a batch before it counts as not submitted; a provider may list a batch only after a moment.
MAX_SEARCHES = 3
#: Characters of a provider's messages that are shown to the user, at most.
MAX_MESSAGE = 1000
