"""Compare two queries in a child process with limits (:class:`dsrl.Worker`)."""

from __future__ import annotations

from functools import lru_cache

from dsrl import Worker, WorkerError

#: Seconds of CPU time, and memory, that the comparison of two queries may take.
SECONDS, MEMORY_MB = 5.0, 512

_worker: Worker[[str, str, str, str], bool] = Worker(
    "dsrl_tasks.text2sql.execution:are_equal", seconds=SECONDS, memory_mb=MEMORY_MB
)


@lru_cache(maxsize=20_000)
def are_equal(prediction: str, label: str, schema: str, database: str) -> bool:
    """Return whether two queries return the same rows; False if that cannot be decided within the limits."""
    try:
        return _worker.call(prediction, label, schema, database)
    except WorkerError:
        return False
