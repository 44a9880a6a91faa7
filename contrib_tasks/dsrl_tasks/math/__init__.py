"""MATH (Hendrycks et al. 2021): problems of mathematics competitions with an exact answer in ``\\boxed{}``.

The instructions are in our own words. Without ``--dataset-path`` the models are evaluated on
a procedural test set of our own (:mod:`dsrl_tasks.math.procedural`). It is not MATH, and we never call it that.

Two answers are equal if they have the same structure and equal parts. A decimal is the number that it writes, so 0.333 is
not 1/3. Units and the signs of degrees, dollars and percent may be left out, as in MATH's own grader: 72% is 72, and 0.72 is
not. A number as label wants a number as answer: ``17 * 23`` is not the answer 391.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from random import Random
from typing import Literal

from dsrl import UNREADABLE, DatasetInfo, Example, Solved, hookimpl
from dsrl.types import Answer

#: Number of items of the procedural test set.
TEST_ITEMS = 600
#: The subjects of MATH. The configurations of the data set have these names, with underscores.
DOMAINS = (
    "algebra",
    "counting and probability",
    "geometry",
    "intermediate algebra",
    "number theory",
    "prealgebra",
    "precalculus",
)


@hookimpl
def description() -> str:
    """Return the description of the task."""
    return (
        "Each input is a problem from a mathematics competition for high schools. It may ask for algebra, counting, "
        "probability, geometry, number theory or precalculus. Solving it takes several steps of exact reasoning, and it has "
        "one correct final answer."
    )


@hookimpl
def input_instruction() -> str:
    """Return the form of an input."""
    return "The input states one mathematics problem and nothing else. Formulas are written in LaTeX."


@hookimpl
def output_instruction() -> str:
    """Return the instruction on how to answer."""
    return r"Work through the problem in small steps, and finish with the exact final answer inside \boxed{}."


@hookimpl
def domains() -> Sequence[str]:
    """Return the subjects of MATH."""
    return DOMAINS


@hookimpl
def process_prediction(output: str) -> Answer:
    """Return the answer in the last box outside the thinking, in one spelling."""
    from dsrl_tasks.math.answers import find_answer

    content = find_answer(output)
    return UNREADABLE if content is None else _spell(content)


@hookimpl
def process_label(output: str) -> Answer:
    """Return the answer in the last box of a solution; a text without a box is the answer itself."""
    answer = process_prediction(output)
    return answer if answer is not UNREADABLE or "boxed" in output else _spell(output)


def _spell(text: str) -> Answer:
    from dsrl_tasks.math.answers import read

    structure = read(text)
    return (structure.render().strip() if structure else "") or UNREADABLE


@hookimpl(specname="eval")
def is_right(prediction: str, label: str) -> bool:
    """Return whether two answers are mathematically equal."""
    from dsrl_tasks.math.comparison import are_equal

    return prediction == label or are_equal(prediction, label)


@hookimpl
def dataset_info() -> DatasetInfo:
    """Return where MATH is. Each subject is a configuration of its own."""
    return DatasetInfo(
        id="EleutherAI/hendrycks_math",
        license="MIT",
        citation="Hendrycks et al. 2021, Measuring Mathematical Problem Solving With the MATH Dataset, arXiv:2103.03874",
        url="https://huggingface.co/datasets/EleutherAI/hendrycks_math",
        sizes={"train": 7500, "test": 5000},
    )


@hookimpl
def load_dataset(path: str, split: Literal["train", "test"]) -> Iterable[Example]:
    """Read MATH or another data set; without a path, make the procedural test set. The items know their subject."""
    from dsrl_tasks.math import procedural
    from dsrl_tasks.math.data import read_math

    if not path:
        items = zip(
            procedural.make_held_out_items("test", TEST_ITEMS), cycle(procedural.HELD_OUT_DOMAINS), strict=False
        )
        return [Example(*item, domain) for item, domain in items]
    return read_math(path, split)


@hookimpl
def procedural_sample(seed: int, difficulty: int, passage: str, domain: str) -> Example:
    """Write a sample by rules, of a domain that has some: algebra, counting and probability, number theory, or prealgebra.

    Each of these has problems of some levels only, and the nearest of them is taken: algebra has 2, 3 and 5, counting and
    probability 1, 4 and 5, number theory 2 and 3, prealgebra 1 and 4. A difficulty above the hardest level gives a sample
    of the hardest level. There are no rules for geometry, intermediate algebra, precalculus, and domains of the user's own:
    the sample is then of another domain, which it names.
    """
    from dsrl_tasks.math import procedural
    from dsrl_tasks.math.data import find_domain

    rng, level, wanted = Random(seed), min(max(difficulty, 1), max(procedural.LEVELS)), find_domain(domain)
    kind = procedural.choose_kind(rng, level, passage, wanted)
    own = procedural.KINDS[kind].domain
    return Example(*procedural.write_problem(rng, kind, passage), domain if own == wanted else own)


@hookimpl
def procedural_solve(input: str) -> Solved | None:
    """Solve an input that ``procedural_sample`` wrote."""
    from dsrl_tasks.math import procedural

    solution = procedural.solve(input)
    return Solved(rf"\boxed{{{solution.label}}}", solution.level) if solution else None
