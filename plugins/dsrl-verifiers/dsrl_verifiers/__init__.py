"""The task ``verifiers``: ``--task verifiers:NAME`` takes an installed environment of the library verifiers as a task."""

from dsrl_verifiers.task import VerifiersTask

__all__ = ["VerifiersTask"]
