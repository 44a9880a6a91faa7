"""Better passages than the first ones of one search, with any retriever. Nothing of it is done unless a setting asks for it.

The paper's way is one search with all keywords together, of which the passages are then drawn at random. Here are, in the
order in which they are applied:

1. several searches, one for each keyword, whose rankings are fused (reciprocal rank fusion, Cormack et al. 2009);
2. a dense rerank of the best ones with a model of sentence-transformers, fused with the ranking before;
3. passages that are nearly the same as a better one, or boilerplate, are left out;
4. diversity: maximal marginal relevance (Carbonell and Goldstein 1998);
5. a spread over sources: the files of the library take turns.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dsrl.corpus.index import Index, search_passages
from dsrl.errors import SettingsError
from dsrl.similarity.grams import hash_words
from dsrl.similarity.near import NearIndex
from dsrl.similarity.words import split_words
from dsrl.types import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dsrl.plugins.binding import Plugin
    from dsrl.plugins.specs import RetrieverSpec

T = TypeVar("T")

#: The constant of reciprocal rank fusion; the value of its authors.
FUSION = 60
#: Where passages are left out or chosen, so many times more are searched for.
POOL = 4
#: Fewer words than these are no passage to write a sample from.
LEAST_WORDS = 8
#: A sentence that is in so many passages is boilerplate; a passage is, if most of its characters are in such sentences.
OFTEN = 5
#: Diversity orders so many passages; those behind them keep their order, so that time stays in proportion.
MOST_DIVERSE = 2_000
_DIMENSIONS = 512
#: A file or document, line, part, and the number of the library that was added; see :mod:`dsrl.corpus.reader`.
_PLACE = re.compile(r"(.*?)(?::\d+)?(?:#\d+)?(@\d+)?", re.DOTALL)
_SENTENCE = re.compile(r"[^.!?\n。！？]+")


@dataclass(frozen=True, slots=True)
class Ranking:
    """How passages are found; the defaults are the paper's way.

    Attributes:
        is_fused: search for each keyword by itself and fuse the rankings, instead of one search for all.
        is_distinct: leave out near duplicates and boilerplate.
        diversity: weight of diversity in maximal marginal relevance, 0 to 1; 0: only relevance.
        is_spread: let the sources of the library take turns.
        rerank: a model of sentence-transformers that reranks the best passages; empty: none.
        rerank_top: number of passages that it reranks.
    """

    is_fused: bool = False
    is_distinct: bool = False
    diversity: float = 0.0
    is_spread: bool = False
    rerank: str = ""
    rerank_top: int = 200


def find_passages(
    retriever: Plugin[RetrieverSpec], index: Index, keywords: Sequence[str], k: int, ranking: Ranking | None = None
) -> list[Passage]:
    """Return at most ``k`` passages for keywords, best first.

    Args:
        retriever: the bound plugin.
        index: an index that this retriever made.
        keywords: any strings.
        k: 1 or more.
        ranking: how; None: the paper's way.

    Raises:
        PluginError, SettingsError: see :func:`dsrl.corpus.index.search_passages`.
        SettingsError: the model for the rerank cannot be loaded.
    """
    ranking = ranking or Ranking()
    is_choosing = ranking.is_distinct or ranking.diversity > 0 or ranking.is_spread
    size = POOL * k if is_choosing else max(k, ranking.rerank_top) if ranking.rerank else k
    searches = [[keyword] for keyword in keywords] if ranking.is_fused else [list(keywords)]
    found = [search_passages(retriever, index, search, size) for search in searches]
    passages = found[0] if len(found) == 1 else fuse_ranks(found, key=_get_text)
    if ranking.rerank:
        passages = rerank_passages(passages, " ".join(keywords), load_encoder(ranking.rerank), ranking.rerank_top)
    if ranking.is_distinct:
        passages = drop_repetitions(passages)
    if ranking.diversity > 0:
        passages = diversify(passages, min(k, MOST_DIVERSE), ranking.diversity)
    if ranking.is_spread:
        passages = spread_sources(passages)
    return passages[:k]


def fuse_ranks(rankings: Iterable[Sequence[T]], key: Callable[[T], Hashable]) -> list[T]:
    """Fuse rankings: the score of an item is the sum of ``1 / (60 + rank)`` over the rankings that hold it.

    Args:
        rankings: lists of items, best first.
        key: what makes two items the same.

    Returns:
        Every item once, best first; with equal scores, the one that comes first in the earlier ranking.
    """
    scores: defaultdict[Hashable, float] = defaultdict(float)
    items: dict[Hashable, T] = {}
    for ranked in rankings:
        for rank, item in enumerate(ranked, 1):
            items.setdefault(key(item), item)
            scores[key(item)] += 1 / (FUSION + rank)
    order = sorted(items, key=lambda name: -scores[name])  # sorting keeps the order of equals
    return [items[name] for name in order]


def drop_repetitions(passages: Sequence[Passage]) -> list[Passage]:
    """Leave out passages that are nearly the same as a better one, and boilerplate.

    Boilerplate are passages with fewer than eight words, with more other characters than letters, or of which most is
    sentences that many of these passages have.
    """
    times = Counter(sentence for passage in passages for sentence in {*_list_sentences(passage.text)})
    near, kept = NearIndex(), []
    for number, passage in enumerate(passages):
        words = split_words(passage.text)
        if len(words) < LEAST_WORDS or _is_boilerplate(passage.text, times):
            continue
        text = hash_words(words)
        if not near.find(text):
            near.add(number, text)
            kept.append(passage)
    return kept


def diversify(passages: Sequence[Passage], count: int, weight: float) -> list[Passage]:
    """Order the best passages by maximal marginal relevance: each next one is relevant and unlike those before it.

    Args:
        passages: best first. Relevance falls with the rank in equal steps.
        count: number of passages that are ordered so; the others follow in their order.
        weight: weight of being unlike, 0 to 1.
    """
    import numpy as np

    if len(passages) < 3:
        return list(passages)
    vectors = _make_vectors(passages)
    relevance = np.linspace(1, 0, len(passages), dtype=np.float32)
    closest = np.zeros(len(passages), dtype=np.float32)
    is_left = np.ones(len(passages), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(count, len(passages))):
        scores = np.where(is_left, (1 - weight) * relevance - weight * closest, -np.inf)
        best = int(scores.argmax())
        chosen.append(best)
        is_left[best] = False
        closest = np.maximum(closest, vectors @ vectors[best])
    return [passages[number] for number in (*chosen, *np.flatnonzero(is_left))]


def spread_sources(passages: Sequence[Passage]) -> list[Passage]:
    """Let sources take turns: first the best passage of each source, then the second one of each, and so on.

    The source of a passage is the file in its id if dsrl made the id, else its document: the id without ``#`` and number.
    """
    turns: Counter[str] = Counter()
    placed = []
    for rank, passage in enumerate(passages):
        source = get_source(passage)
        placed.append((turns[source], rank))
        turns[source] += 1
    return [passages[rank] for _, rank in sorted(placed)]


def get_source(passage: Passage) -> str:
    """Return what a passage is from: a file of the library, or a document."""
    _, mark, place = passage.id.rpartition("@")
    parts = _PLACE.fullmatch(place if mark and not place.isdigit() else passage.id)
    return parts[1] + (parts[2] or "") if parts else passage.id


def rerank_passages(
    passages: Sequence[Passage], query: str, encode: Callable[[Sequence[str]], Any], top: int
) -> list[Passage]:
    """Fuse the ranking of the best passages with their ranking by similarity to the query.

    Args:
        passages: best first.
        query: the keywords.
        encode: returns a vector of length 1 for each text.
        top: number of passages that are compared; the others follow in their order.
    """
    import numpy as np

    best = list(passages[:top])
    if not best:
        return []
    vectors = np.asarray(
        encode([query, *(f"{passage.title} {passage.text}".strip() for passage in best)]), dtype=np.float32
    )
    order = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")
    return [*fuse_ranks([best, [best[number] for number in order]], key=_get_text), *passages[top:]]


def check_encoder(model: str) -> None:
    """Refuse a model for the rerank that can be seen not to be there, without loading anything.

    Raises:
        SettingsError: sentence-transformers is not installed, or the folder does not exist.
    """
    if find_spec("sentence_transformers") is None:
        raise SettingsError(
            "Passages are reranked with sentence-transformers, which is not installed: pip install sentence-transformers"
        )
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise SettingsError(f"There is no folder {model} with a model to rerank passages with (--passage-rerank).")


def load_encoder(model: str) -> Callable[[Sequence[str]], Any]:
    """Return the encoder of a model of sentence-transformers, which makes a vector of length 1 of each text.

    Raises:
        SettingsError: the package is not installed, or there is no such model.
    """
    check_encoder(model)
    from sentence_transformers import SentenceTransformer

    try:
        loaded: Any = SentenceTransformer(str(Path(model).expanduser()))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(
            f"There is no model of sentence-transformers at {model}: {reason}. Give a folder."
        ) from error
    return lambda texts: loaded.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def _get_text(passage: Passage) -> str:
    return passage.text


def _list_sentences(text: str) -> list[str]:
    sentences = (" ".join(sentence.split()).casefold() for sentence in _SENTENCE.findall(text))
    return [sentence for sentence in sentences if len(sentence) >= 20]


def _is_boilerplate(text: str, times: Counter[str]) -> bool:
    letters = sum(character.isalpha() for character in text)
    if 2 * letters < len("".join(text.split())):
        return True
    sentences = _list_sentences(text)
    often = sum(len(sentence) for sentence in sentences if times[sentence] >= OFTEN)
    return 2 * often > sum(map(len, sentences))


def _make_vectors(passages: Sequence[Passage]) -> NDArray[np.float32]:
    """Return a vector of length 1 for each passage: its words, weighed by how rare they are among these passages."""
    import numpy as np

    rows = [hash_words(split_words(passage.text)).hashes % _DIMENSIONS for passage in passages]
    vectors = np.zeros((len(passages), _DIMENSIONS), dtype=np.float32)
    for number, row in enumerate(rows):
        vectors[number] = np.bincount(row.astype(np.int64), minlength=_DIMENSIONS)
    rarity = np.log(len(passages) / (1 + (vectors > 0).sum(axis=0)) + 1)
    weighed: NDArray[np.float32] = (np.log1p(vectors) * rarity).astype(np.float32)
    weighed /= np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-9)
    return weighed
