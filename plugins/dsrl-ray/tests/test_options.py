from __future__ import annotations

from typing import Any

import pytest
from dsrl_ray.options import parse_options

from dsrl import SettingsError


def test_options_of_the_workers_stand_behind_set() -> None:
    options = parse_options(
        {"model": "m", "sampler": "vllm", "device": "cpu", "set.tensor_parallel": 2, "set": {"gpu_memory": 0.5}}
    )
    assert options.ref.name == "vllm"
    assert options.ref.options == {"model": "m", "device": "cpu", "tensor_parallel": 2, "gpu_memory": 0.5}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"actor": 2}, "no option 'actor'; did you mean actors"),
        ({"tensor_parallel": 2}, "set.tensor_parallel=.."),
        ({"actors": -1}, "actors=-1 must be a whole number of at least 0"),
        ({"gpus": -2}, "gpus=-2"),
        ({"cpus": 0.5}, "cpus=0.5"),
        ({"sampler": "ray"}, "transformers or vllm"),
        ({"ray_address": "nowhere"}, "HOST:PORT"),
        ({"set.": 1}, "set.tensor_parallel=2"),
        ({"set": 1}, "set.tensor_parallel=2"),
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_options({"model": "m", **values})
