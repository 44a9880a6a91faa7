"""Requests that go to a provider as one batch: cheaper, and answered hours later.

Requests that arrive until nothing more comes for a moment go into one batch (:mod:`.gathering`). A batch gets a token, which
is on the disk before the batch is submitted and goes with it (:mod:`.submission`). A run that was stopped at any moment
finds its batch again, by the provider's id or by the token, and submits none twice. (If a teacher cannot look for a token, a
kill at the very moment of submission loses the batch: its money stays on hold, and its requests are sent again.) Then the
batch is polled until it ends, and booked (:mod:`.polling`). The tables belong to :mod:`.store`.
"""

from dsrl.teaching.batches.coordinator import Batches
from dsrl.teaching.batches.provider import cancel_batch, poll_batch
from dsrl.teaching.batches.store import BatchRecord, list_batches

__all__ = ["BatchRecord", "Batches", "cancel_batch", "list_batches", "poll_batch"]
