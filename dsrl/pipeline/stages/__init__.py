"""The steps of the road, one module each, in the paper's words and order. :mod:`dsrl.pipeline.run` strings them together."""

from __future__ import annotations

#: The road. ``--stop-after`` takes one of these names.
STAGES = (
    "keywords",
    "passages",
    "pattern",
    "initial",
    "verified",
    "attempted",
    "adapted",
    "scored",
    "selected",
    "trained",
    "evaluated",
)
