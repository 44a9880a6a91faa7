from __future__ import annotations

from typing import Any

import pytest
from dsrl_vllm.options import EngineOptions, parse_options

from dsrl import SettingsError


def test_the_defaults() -> None:
    assert parse_options(model="tiny") == EngineOptions("tiny")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"device": 3}, "no device 3"),
        ({"dtype": "float16"}, "float16.*auto, float32 or bfloat16"),
        ({"tensor_parallel": 0}, "tensor_parallel=0 must be a whole number"),
        ({"tensor_parallel": 1.5}, "tensor_parallel=1.5"),
        ({"max_sequences": True}, "max_sequences=True"),
        ({"context": -1}, "context=-1"),
        ({"gpu_memory": 0}, "above 0 and at most 1"),
        ({"gpu_memory": 1.1}, "above 0 and at most 1"),
        ({"cache_gb": -1}, "cache_gb=-1"),
        ({"cache_gb": float("nan")}, "cache_gb=nan"),
        ({"tensor_parallel": 2, "device": "cpu"}, "leave one of the two out"),
        ({"tensor_parallel": 2, "device": "cuda:1"}, "leave one of the two out"),
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_options(model="tiny", **values)
