from __future__ import annotations

import socket
from typing import Any

import pytest
from dsrl_ray.cluster import Node, ask_cluster, choose_gpus, count_workers
from dsrl_ray.options import parse_options

from dsrl import DsrlError, SettingsError

from .conftest import needs_ray

CPU = Node("10.0.0.1", 8, 0)
GPU = Node("10.0.0.2", 16, 4)


def parse(**values: Any) -> Any:
    return parse_options({"model": "m", **values})


@pytest.mark.parametrize(
    ("values", "nodes", "gpus", "workers"),
    [
        ({}, [CPU], 0, 4),
        ({}, [Node("a", 2, 0), Node("b", 1, 0)], 0, 3),
        ({"cpus": 4}, [CPU, CPU], 0, 4),
        ({"actors": 8}, [CPU], 0, 8),
        ({"cpus": 0}, [CPU], 0, 4),
        ({}, [GPU, GPU, CPU], 1, 8),
        ({"set.tensor_parallel": 2}, [GPU, GPU], 2, 4),
        ({"device": "cpu"}, [GPU], 0, 4),
        ({"gpus": 4, "actors": 1}, [GPU, GPU], 4, 1),
        ({}, [Node("a", 2, 4)], 1, 2),
        ({}, [GPU, Node("b", 16, 8, "no driver")], 1, 4),
    ],
)
def test_as_many_workers_as_there_is_room_for(
    values: dict[str, Any], nodes: list[Node], gpus: int, workers: int
) -> None:
    options = parse(**values)
    assert choose_gpus(options, nodes) == gpus
    assert count_workers(options, nodes) == workers


@pytest.mark.parametrize(
    ("values", "nodes", "words"),
    [
        ({"gpus": 8}, [GPU, GPU], "needs 8 GPUs and 1 CPUs of one node.*16 CPUs and 4 GPUs.*gpus=4"),
        ({"gpus": 1}, [CPU], "8 CPUs and 0 GPUs.*gpus=0.*--device cpu"),
        ({"cpus": 32}, [CPU], "cpus=1"),
        ({"actors": 9}, [GPU, GPU], "actors=9.*room for 8"),
        ({}, [], "no node"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(values: dict[str, Any], nodes: list[Node], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        count_workers(parse(**values), nodes)


def test_a_sampler_that_works_nowhere_is_refused_with_the_reason_of_a_node() -> None:
    with pytest.raises(DsrlError, match=r"any node.*10.0.0.9: no module named vllm"):
        count_workers(parse(), [Node("10.0.0.9", 8, 0, "no module named vllm")])


@needs_ray
def test_an_address_that_does_not_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SettingsError, match=rf"nothing answers at the Ray address 127.0.0.1:{port}.*ray start --head"):
        ask_cluster(f"127.0.0.1:{port}")
    with pytest.raises(SettingsError, match="nothing answers"):
        ask_cluster("127.0.0.1:99999")


@needs_ray
@pytest.mark.slow
def test_an_address_at_which_something_else_answers() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(SettingsError, match=f"the Ray cluster at {address} cannot be used"):
            ask_cluster(address, seconds=12)
