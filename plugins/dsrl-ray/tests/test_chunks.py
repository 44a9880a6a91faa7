from __future__ import annotations

from dsrl_ray.chunks import make_chunks

from dsrl import Prompt


def test_every_prompt_is_in_one_chunk() -> None:
    chunks = make_chunks([Prompt(str(i)) for i in range(100)], n=64)
    assert [len(chunk) for chunk in chunks] == [32, 32, 32, 4]
    assert [place for chunk in chunks for place in chunk] == list(range(100))
    assert [len(chunk) for chunk in make_chunks([Prompt(str(i)) for i in range(300)], n=1)] == [256, 44]
    assert len(make_chunks([Prompt(str(i)) for i in range(32)], n=10**6)) == 2
    assert len(make_chunks([Prompt(str(i)) for i in range(30)], n=1, size=10)) == 3
    assert make_chunks([], n=1) == []


def test_copies_of_a_prompt_stay_together_in_their_order() -> None:
    prompts = [Prompt("a"), Prompt("b"), Prompt("a"), Prompt("a", system="s"), Prompt("a", is_chat=True), Prompt("b")]
    assert make_chunks(prompts, n=1, size=1) == [[0, 2], [1, 5], [3], [4]]
