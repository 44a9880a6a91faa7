"""Passages: the retriever finds the texts that the samples are based on (paper 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dsrl.corpus.index import Index, ensure_index, search_passages
from dsrl.pipeline.runtime import OpenRun
from dsrl.types import Passage

#: Characters of a passage that a prompt shows (as in the original).
PASSAGE_LENGTH = 2048


def open_index(run: OpenRun, iteration: int) -> Index | None:
    """Open the index of the passage libraries, and make it if it does not exist.

    Returns:
        The index; None if the passages of this iteration are already stored.

    Raises:
        DsrlError: the libraries cannot be read, or the index cannot be made.
    """
    if run.store.stages.is_finished(iteration, "passages"):
        return None
    context = run.context
    run.progress.start("passages", None)
    shown = 0

    def on_progress(indexed: int) -> None:
        nonlocal shown
        run.progress.advance("passages", indexed - shown)
        shown = indexed

    with run.clock.measure("passages"):
        index = ensure_index(
            context.retriever, context.corpus, context.workspace.indexes, on_progress, context.corpus_fingerprint
        )
    if context.corpus.bad:
        faults = "; ".join(context.corpus.faults[:3])
        run.add_note(f"{context.corpus.bad} line(s) of the passage library were left out: {faults}")
    return index


def retrieve_passages(run: OpenRun, iteration: int, index: Index | None) -> None:
    """Search passages for the keywords of each domain and store them; do nothing if ``index`` is None."""
    if index is None:
        return
    passages: dict[str, dict[str, list[Passage]]] = {}
    total = 0
    with run.clock.measure("passages"):
        for task, keywords in run.store.keywords(iteration).items():
            share = -(-run.context.count_slots(task) // len(keywords))
            passages[task] = {}
            for domain, words in keywords.items():
                hits = search_passages(run.context.retriever, index, words, run.settings.passages)
                total += len(hits)
                passages[task][domain] = assign_passages(hits, share, _make_rng(run, iteration, task, domain))
                if len(hits) < share:
                    _note_few_passages(run, len(hits), share, task, domain)
        run.store.add_passages(iteration, passages)
    run.progress.finish("passages", f"{total} found")


def _make_rng(run: OpenRun, iteration: int, task: str, domain: str) -> Random:
    place = (task, domain) if task else (domain,)
    return Random(":".join(map(str, (run.settings.seed, iteration, *place))))


def _note_few_passages(run: OpenRun, found: int, share: int, task: str, domain: str) -> None:
    count = f"only {found} passages" if found else "no passages"
    result = "some samples share a passage" if found else "these samples are written without a passage"
    of_task = f" of the task {task!r}" if task else ""
    run.add_note(f"{count} were found for {share} samples of the domain {domain!r}{of_task}; {result}")


def assign_passages(passages: Sequence[Passage], n: int, rng: Random) -> list[Passage]:
    """Draw at most ``n`` passages in random order, each at most once."""
    return rng.sample(list(passages), min(n, len(passages)))


def get_passage(passages: Sequence[Passage], number: int) -> Passage | None:
    """Return the passage of the sample with this number; samples share passages if there are too few. None if none."""
    return passages[number % len(passages)] if passages else None
