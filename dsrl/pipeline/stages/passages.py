"""Passages: the retriever finds the texts that the samples are based on (paper 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dsrl.corpus.embedded import describe_library, knows_domain
from dsrl.corpus.index import Index, ensure_index
from dsrl.corpus.named import NamedIndex
from dsrl.corpus.ranking import Ranking, find_passages
from dsrl.corpus.reader import Corpus
from dsrl.pipeline.runtime import OpenRun
from dsrl.plugins.binding import Plugin
from dsrl.plugins.specs import RetrieverSpec
from dsrl.settings import Settings
from dsrl.types import Passage

#: Characters of a passage that a prompt shows (as in the original).
PASSAGE_LENGTH = 2048
#: Passages that must be indexed before their number in the library is estimated from the bytes that were read.
_ESTIMATE_AFTER = 10_000


def open_index(run: OpenRun, iteration: int) -> Index | None:
    """Open the index of the passage libraries, and make it if it does not exist.

    Returns:
        The index; None if the passages of this iteration are already stored, or if the run goes without passages.

    Raises:
        DsrlError: the libraries cannot be read, or the index cannot be made.
    """
    corpus, retriever = run.context.corpus, run.context.retriever
    if run.store.stages.is_finished(iteration, "passages") or retriever is None:
        return None
    with run.clock.measure("passages"):
        if isinstance(corpus, NamedIndex):
            run.progress.start("passages", None)
            index = corpus.open(retriever)
            notes = corpus.list_changes()
        else:
            index = _make_index(run, corpus, retriever)
            notes = []
    if corpus.bad:
        notes.append(f"{corpus.bad} line(s) of the passage library were left out: {'; '.join(corpus.faults[:3])}")
    if corpus.passed_over:
        files = "; ".join(corpus.passed_over[:3])
        notes.append(f"{len(corpus.passed_over)} file(s) of the passage library hold no passages: {files}")
    for note in notes:
        run.add_note(note)
    return index


def _make_index(run: OpenRun, corpus: Corpus, retriever: Plugin[RetrieverSpec]) -> Index:
    """Make the index of files and folders, if it does not exist, and show the progress."""
    shown: int | None = None  # None: the display has not started, because the number of passages is not known

    def on_progress(indexed: int) -> None:
        nonlocal shown
        if shown is None and indexed >= _ESTIMATE_AFTER and corpus.bytes_read:
            run.progress.start("passages", max(indexed, round(indexed * corpus.bytes_total / corpus.bytes_read)))
            shown = 0
        if shown is not None:
            run.progress.advance("passages", indexed - shown)
            shown = indexed

    context = run.context
    index = ensure_index(retriever, corpus, context.workspace.indexes, on_progress, context.corpus_fingerprint)
    if shown is None:
        run.progress.start("passages", None)
        run.progress.advance("passages", index.passages if index.is_new else 0)
    return index


def retrieve_passages(run: OpenRun, iteration: int, index: Index | None) -> None:
    """Search passages for the keywords of each domain and store them; do nothing if they are stored already."""
    if run.store.stages.is_finished(iteration, "passages"):
        return
    passages: dict[str, dict[str, list[Passage]]] = {}
    ranking, retriever, total = make_ranking(run.settings), run.context.retriever, 0
    with run.clock.measure("passages"):
        for task, keywords in run.store.keywords(iteration).items():
            share = -(-run.context.count_slots(task) // len(keywords))
            passages[task] = {}
            for domain, words in keywords.items():
                if index is None or retriever is None:  # --passages 0
                    passages[task][domain] = []
                    continue
                hits = find_passages(retriever, index, words, run.settings.passages, ranking)
                total += len(hits)
                passages[task][domain] = assign_passages(hits, share, _make_rng(run, iteration, task, domain))
                if len(hits) < share:
                    _note_few_passages(run, len(hits), share, task, domain)
                if not run.settings.corpus and not knows_domain(words):
                    _note_unknown_domain(run, domain)
        run.store.add_passages(iteration, passages)
    run.progress.finish("passages", "none wanted" if index is None else f"{total} found")


def make_ranking(settings: Settings) -> Ranking:
    """Return how the settings want passages to be found."""
    return Ranking(
        is_fused=settings.passage_queries == "each",
        is_distinct=settings.passage_distinct,
        diversity=settings.passage_diversity,
        is_spread=settings.passage_spread,
        rerank=settings.passage_rerank,
        rerank_top=settings.passage_rerank_top,
    )


def _note_unknown_domain(run: OpenRun, domain: str) -> None:
    run.add_note(
        f"the passages that come with dsrl hardly know the domain {domain!r}; they hold {describe_library()}. Give passages "
        "of your own with --corpus (a file, a folder, or an index of `dsrl index build`), or none with --passages 0"
    )


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
