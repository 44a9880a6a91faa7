"""The package is not part of the default environment; its tests find it all the same."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

#: The mark of tests that start Ray.
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make test-ray")
