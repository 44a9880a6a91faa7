"""What the CPU mode puts in the place of verl's functions takes their arguments."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import inspect, torch.distributed, verl.utils.model
def list_parameters():
    return list(inspect.signature(verl.utils.model.load_valuehead_model).parameters)
before = list_parameters()
import dsrl_verl.cpu
assert list_parameters() == before, (list_parameters(), before)
from verl.plugin.platform import get_platform
assert get_platform().device_name == "cpu"
"""


@pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make test-verl")
def test_the_replaced_functions_have_the_names_that_verl_uses() -> None:
    """In a process of its own, because it changes verl and torch."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
