"""The engine's process, with a script in the place of the engine."""

from __future__ import annotations

import threading

import pytest
from dsrl_vllm import process
from dsrl_vllm.process import EngineProcess

#: What vLLM 0.24 prints if its own process cannot start, shortened: the reason, and then the traceback of the parent.
FAILS = r"""
import sys
said = "(EngineCore pid=7) ERROR 11-29 19:34:01 [core.py:1231] "
print(f"{said}EngineCore failed to start.")
print(f"{said}Traceback (most recent call last):")
print(f"{said}ValueError: No room for keys and values.")
print("Traceback (most recent call last):")
for number in range(30):
    print(f'  File "client.py", line {number}, in start')
sys.exit("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
"""


def test_the_reason_is_told_although_the_last_lines_have_it_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_BOOTSTRAP", FAILS)
    has_ended = threading.Event()
    engine = EngineProcess({}, {}, lambda process, message: None, lambda process: has_ended.set())
    assert has_ended.wait(30)
    told = engine.describe_end()
    assert told.startswith(
        "ended with exit code 1, because of ValueError: No room for keys and values.; its last lines:\n"
    )
    assert told.endswith("Failed core proc(s): {}")
    engine.stop()
