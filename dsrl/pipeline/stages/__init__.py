"""The steps of the road, one module each, in the paper's words and order. :mod:`dsrl.pipeline.run` strings them together."""

from __future__ import annotations

from dsrl.storage import STAGES as STAGES
