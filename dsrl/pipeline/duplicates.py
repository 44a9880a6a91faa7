"""Duplicates among the synthetic samples: the first of equal or nearly equal samples stays, the others are set aside.

Two samples are equal if their inputs have the same normal form. They are nearly equal if their inputs, without the template
that many samples share, have a Jaccard similarity of word 5-grams of at least 0.8, and their labels are equal: a sample that
differs in one number and has another answer is another problem. A rewritten sample is not compared in this way with the one
that it was rewritten from, because a small change can be what makes it harder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsrl.similarity.copies import cut_span
from dsrl.similarity.grams import SHORT, HashedText, Template, find_longest_run, find_template, hash_words
from dsrl.similarity.near import NearIndex
from dsrl.similarity.words import join_words, split_words
from dsrl.storage.matches import Match
from dsrl.types import Sample

#: An n-gram belongs to the template only if at least so many samples have it; fewer can be copies of each other.
LEAST_SHARED = 5
#: Longer inputs are only compared exactly, so that time and memory stay bounded.
_LONGEST_INPUT = 200_000


def find_duplicates(samples: Sequence[Sample], known: Sequence[Template] = ()) -> list[Match]:
    """Find the samples that are duplicates of one that comes before them.

    Args:
        samples: labelled samples, in the order in which they are kept.
        known: templates that are known already.

    Returns:
        A match for each duplicate, in the order of the samples.
    """
    first: dict[str, Sample] = {}
    exact: dict[str, str] = {}
    hashed: dict[str, HashedText] = {}
    for sample in samples:
        long = len(sample.input) > _LONGEST_INPUT
        words = [] if long else split_words(sample.input)
        kept = first.setdefault(join_words(words) or " ".join(sample.input.casefold().split()), sample)
        if kept is not sample:
            exact[sample.id] = kept.id
        elif words:
            hashed[sample.id] = hash_words(words)
    template = find_template(hashed.values(), LEAST_SHARED, known)
    return _find_near(samples, exact, hashed, template)


def _find_near(
    samples: Sequence[Sample], exact: Mapping[str, str], hashed: Mapping[str, HashedText], template: Template
) -> list[Match]:
    """Return the exact duplicates and the near ones, which are looked for among the samples that are kept."""
    index = NearIndex()
    rests: dict[str, HashedText] = {}
    matches = []
    for number, sample in enumerate(samples):
        if sample.id in exact:
            span = cut_span(sample.input)
            matches.append(Match(sample.id, "duplicate", "exact", span, other=exact[sample.id]))
        elif sample.id in hashed:
            text = hashed[sample.id]
            positions = template.find_rest(text)
            rest = text.select(positions)
            near = ((samples[other], similarity) for other, similarity in index.find(rest))
            found = next(((kept, similarity) for kept, similarity in near if _is_comparable(sample, kept)), None)
            if found is None:
                index.add(number, rest)
                rests[sample.id] = rest
                continue
            kept, similarity = found
            begin, end = find_longest_run(rest, rests[kept.id], SHORT)
            words = split_words(sample.input)
            span = cut_span(" ".join(words[i] for i in positions[begin:end]))
            matches.append(Match(sample.id, "duplicate", "near", span, similarity, other=kept.id))
    return matches


def _is_comparable(sample: Sample, kept: Sample) -> bool:
    return sample.label == kept.label and sample.slot != kept.slot
