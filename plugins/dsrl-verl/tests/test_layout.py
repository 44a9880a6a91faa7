"""The table of model size and GPUs to layout."""

from __future__ import annotations

import pytest
from dsrl_verl.layout import Cluster, choose_layout, count_needed_gpus

from dsrl import SettingsError

#: weights in billions, nodes, GPUs a node, GB a GPU, adapters, critic -> GPUs that answer together, offload
TABLE = [
    (0.5, 1, 1, 80, False, False, 1, "none"),
    (1.5, 1, 1, 80, False, False, 1, "none"),
    (1.5, 1, 1, 24, False, False, 1, "host"),
    (3, 1, 1, 80, False, False, 1, "none"),
    (7, 1, 4, 80, False, False, 1, "none"),
    (7, 1, 2, 80, False, False, 1, "host"),
    (7, 1, 8, 80, False, False, 1, "none"),
    (7, 1, 8, 80, False, True, 1, "none"),
    (7, 1, 1, 80, True, False, 1, "none"),
    (7, 1, 2, 24, True, False, 2, "moved"),
    (14, 1, 8, 80, False, False, 1, "none"),
    (32, 1, 8, 80, False, False, 4, "host"),
    (32, 2, 8, 80, False, False, 4, "none"),
    (32, 1, 8, 80, True, False, 4, "none"),
    (72, 4, 8, 80, False, False, 8, "none"),
    (72, 1, 8, 80, True, False, 8, "none"),
    (0.5, 1, 6, 80, False, False, 1, "none"),
]


@pytest.mark.parametrize(("billions", "nodes", "gpus", "gb", "adapters", "critic", "parts", "offload"), TABLE)
def test_the_table(
    billions: float, nodes: int, gpus: int, gb: float, adapters: bool, critic: bool, parts: int, offload: str
) -> None:
    cluster = Cluster(nodes, gpus, gb * 1e9)
    layout = choose_layout(int(billions * 1e9), cluster, has_adapters=adapters, has_critic=critic)
    assert (layout.tensor_parallel, layout.offload) == (parts, offload)
    # The weights and some keys and values fit into what the engine gets.
    assert 2 * billions / parts + 0.1 * gb <= layout.engine_memory * gb + 1e-9
    assert layout.engine_memory <= 0.9


def test_more_gpus_never_need_more_offloading() -> None:
    order = ["none", "moved", "host"]
    for billions in (1, 3, 7, 14, 32):
        found = []
        for gpus in (1, 2, 4, 8):
            try:
                found.append(order.index(choose_layout(int(billions * 1e9), Cluster(1, gpus, 80e9)).offload))
            except SettingsError:
                found.append(len(order))
        assert found == sorted(found, reverse=True), billions


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(SettingsError) as caught:
        choose_layout(72 * 10**9, Cluster(1, 1, 24e9), has_critic=True)
    text = str(caught.value)
    assert "72 billion weights does not fit on 1 GPU of 24 GB" in text
    assert "--lora-rank 32" in text
    assert "algorithm=grpo" in text
    count = count_needed_gpus(72 * 10**9, 24e9, has_critic=True)
    assert f"{count} of these GPUs would be enough" in text


def test_the_user_may_say_how_many_gpus_answer_together() -> None:
    assert choose_layout(10**9, Cluster(1, 8, 80e9), tensor_parallel=4).tensor_parallel == 4
    with pytest.raises(SettingsError, match="does not divide the 6 GPUs of a node; give 1 or 2"):
        choose_layout(10**9, Cluster(1, 6, 80e9), tensor_parallel=4)
