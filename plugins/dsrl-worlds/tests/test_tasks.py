from __future__ import annotations

import json
from pathlib import Path

import pytest
from dsrl_worlds.tasks import ChainClasses, Chains
from dsrl_worlds.world import WORLDS, World, read_chain

from dsrl import Example, PluginRef, SettingsError
from dsrl.plugins.binding import load
from dsrl.types import UNREADABLE


def test_a_sample_has_the_states_after_each_operation() -> None:
    sample = Chains().procedural_sample(seed=3, difficulty=3)
    chain = read_chain(sample.input)
    assert chain is not None
    states = World(1).follow(chain)
    assert sample.output == f"n{states[0]} n{states[1]} n{states[2]} ."
    classes = ChainClasses().procedural_sample(seed=3, difficulty=3)
    assert classes == Example(sample.input, f"n{states[0]} n{states[1]} n{states[2]} c{states[2] % 3} .")


@pytest.mark.parametrize("task", [Chains, ChainClasses])
def test_the_generator_cannot_write_a_test_item(task: type[Chains]) -> None:
    for world in WORLDS:
        held_out = {item.input for split in ("test", "dev") for item in task(world, split).make_held_out_items()}
        assert len(held_out) == 1500
        subject = task(world)
        samples = {subject.procedural_sample(seed, 1 + seed % 4).input for seed in range(4000)}
        assert not samples & held_out


def test_without_a_path_the_items_of_the_split_are_loaded() -> None:
    for split, count in (("test", 1000), ("dev", 500)):
        task = load(PluginRef("task", "chains", {"world": 2, "split": split}), "task")
        items = list(task.hook.load_dataset(path="", split="test"))
        assert len(items) == count
        for item in items:
            assert task.hook.process_label(output=item.output, input=item.input) is not UNREADABLE
            assert task.hook.procedural_solve(input=item.input).output == item.output


def test_a_path_is_read(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"input": "n4 op2 =", "output": "n7 ."}) + "\n")
    assert list(Chains().load_dataset(str(path), "test")) == [Example("n4 op2 =", "n7 .")]


def test_each_world_names_its_base_model() -> None:
    assert [Chains(world).base_model() for world in WORLDS] == ["chains-1", "chains-2", "chains-3"]


@pytest.mark.parametrize("options", [{"world": 4}, {"world": True}, {"world": "1"}, {"split": "train"}])
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"--task-option {next(iter(options))}="):
        load(PluginRef("task", "chains", options), "task")
