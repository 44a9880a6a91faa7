"""Random runs of the real command against a fake provider that fails in every way and keeps its own book.

``python -m tests.torture --runs 300 --seed 0`` is the long form; ``make test-torture`` runs the part that CI has time for.
What is judged is what can be seen from outside: the provider's book, exit codes, stderr, memory, and the samples at the end.
"""
