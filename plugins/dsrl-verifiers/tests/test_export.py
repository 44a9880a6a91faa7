"""An exported task in the real library: the reward there is the reward here, for any output."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers.v1", reason="the library verifiers is not installed: make test-verifiers")

import verifiers.v1 as vf
from dsrl_verifiers.scoring import score_output
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrl import PluginError, PluginRef, compute_reward, load
from dsrl.export.package import describe_task, make_verifiers_package, write_package
from dsrl.pipeline.instructor import Definition

ROOT = Path(__file__).parents[3]
VARIANTS = ROOT / "contrib_tasks/tests/data/answer_variants.toml"
#: Tasks with a test set of their own, which needs no network.
TASKS = ("mednli", "gsm8k", "logiqa")
WILD = (
    "",
    " \n\t",
    "\x00",
    "<answer>",
    "<think>",
    "\\boxed{" * 2000,
    "9" * 100_000,
    "<answer> " * 1000 + "entailment" + " </answer>" * 1000,
    "\N{RIGHT-TO-LEFT OVERRIDE}#### \N{ARABIC-INDIC DIGIT FOUR}",
    "  <answer> entailment </answer>  ",
    "####",
)


def export(name: str, folder: Path, dataset_path: str = "", **options: Any) -> str:
    """Write the environment of a task into a folder and return its name."""
    exported = describe_task(load(PluginRef("task", name, options), "task"), dataset_path)
    write_package(make_verifiers_package(exported), folder / exported.distribution)
    return exported.distribution


@pytest.fixture(scope="module", params=TASKS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A task of dsrl and the tasks of its environment, loaded by the library."""
    folder = tmp_path_factory.mktemp("exported")
    name = export(request.param, folder)
    sys.path.insert(0, str(folder / name))
    try:
        taskset = vf.load_taskset(vf.taskset_config_type(name)(id=name))
        yield load(PluginRef("task", request.param), "task"), list(taskset.take(60))
    finally:
        sys.path.remove(str(folder / name))


def assert_same_reward(task: Any, item: Any, output: str) -> None:
    there, _ = asyncio.run(score_output(item, output))
    here = compute_reward(task, output, item.data.answer, item.data.input)
    assert there == here, output[:200]


def test_items_and_labels_are_those_of_the_task(exported: Any) -> None:
    task, items = exported
    hook = task.hook
    definition = Definition(hook.description(), "", hook.output_instruction())
    for item, example in zip(items, hook.load_dataset(path="", split="test"), strict=False):
        assert (item.data.input, item.data.prompt) == (example.input, definition.make_question(example.input))
        assert item.data.answer == hook.process_label(output=example.output, input=example.input)
        assert asyncio.run(item.validate(None)) is True


def test_the_rewards_are_the_same_for_answers_as_models_write_them(exported: Any) -> None:
    task, items = exported
    variants = [v["output"] for group in _list_variants() for v in group]
    assert len(variants) > 400
    draw = random.Random(0)
    for output in variants:
        assert_same_reward(task, draw.choice(items), output)
    for item in items:
        for answer in (item.data.answer, items[0].data.answer):
            for output in (
                answer,
                f"<think> a </think> <answer> {answer} </answer>",
                f"so\n#### {answer}",
                f"\\boxed{{{answer}}}",
            ):
                assert_same_reward(task, item, output)


def _list_variants() -> list[list[dict[str, str]]]:
    """Return the groups of tables with an output in the file of answer variants, wherever they stand."""
    groups: list[list[dict[str, str]]] = []

    def walk(value: Any) -> None:
        if isinstance(value, list) and value and all(isinstance(v, dict) and "output" in v for v in value):
            groups.append(value)
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(inner)

    walk(tomllib.loads(VARIANTS.read_text(encoding="utf-8")))
    return groups


@pytest.mark.parametrize("output", WILD, ids=range(len(WILD)))
def test_the_rewards_are_the_same_for_wild_outputs(exported: Any, output: str) -> None:
    task, items = exported
    assert_same_reward(task, items[0], output)


@settings(max_examples=150)
@given(st.data())
def test_the_rewards_are_the_same_for_any_text(exported: Any, data: st.DataObject) -> None:
    task, items = exported
    item = data.draw(st.sampled_from(items))
    text = st.text(st.characters(exclude_categories=("Cs",)))
    pieces = st.sampled_from(
        ["<think>", "</think>", "<answer>", "</answer>", "#### ", "\\boxed{", "}", item.data.answer, "not ", "\n"]
    )
    assert_same_reward(task, item, "".join(data.draw(st.lists(st.one_of(text, pieces), max_size=8))))


def test_parts_of_a_reward_are_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Any) -> None:
    task, items = exported
    item = items[0]
    reward: Any = compute_reward(task, item.data.answer, item.data.answer, item.data.input)
    trace = vf.Trace(
        task=vf.TraceTask(type="x", data=item.data),
        agent=vf.AgentInfo(config=vf.AgentConfig(runtime=vf.SubprocessConfig())),
    )
    trace.nodes = [vf.MessageNode(message=vf.AssistantMessage(content=item.data.answer), sampled=True)]
    asyncio.run(item.score(trace))
    assert trace.metrics == {f"reward/{name}": part for name, part in getattr(reward, "parts", {}).items()}
    assert trace.reward == reward


def test_a_rollout_without_an_answer_earns_what_an_empty_answer_earns(exported: Any) -> None:
    task, items = exported
    agent = vf.AgentInfo(config=vf.AgentConfig(runtime=vf.SubprocessConfig()))
    trace = vf.Trace(task=vf.TraceTask(type="x", data=items[0].data), agent=agent)
    asyncio.run(items[0].score(trace))
    assert trace.reward == compute_reward(task, "", items[0].data.answer, items[0].data.input)


def test_a_data_set_can_be_chosen_at_export_and_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "sums.jsonl"
    data.write_text(json.dumps({"question": "What is 1 + 2?", "answer": "1 + 2 = 3\n#### 3"}) + "\n")
    name = export("gsm8k", tmp_path, str(data))
    monkeypatch.syspath_prepend(tmp_path / name)
    monkeypatch.delitem(sys.modules, name.replace("-", "_"), raising=False)
    monkeypatch.delitem(sys.modules, f"{name.replace('-', '_')}.taskset", raising=False)
    config = vf.taskset_config_type(name)
    (item,) = vf.load_taskset(config(id=name))
    assert (item.data.input, item.data.answer) == ("What is 1 + 2?", "3")
    assert len(list(vf.load_taskset(config(id=name, dataset_path="")))) > 1


def test_items_keep_their_domain_there_and_back_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = export("math", tmp_path)
    monkeypatch.syspath_prepend(tmp_path / name)
    examples = list(load(PluginRef("task", "math"), "task").hook.load_dataset(path="", split="test"))
    assert len({example.domain for example in examples}) > 1
    items = list(vf.load_taskset(vf.taskset_config_type(name)(id=name)))
    assert [item.data.domain for item in items] == [example.domain for example in examples]
    # The reward of a foreign environment could need the domain, and a synthetic sample has none: the user must say so.
    task = f"verifiers:{name}"
    with pytest.raises(PluginError, match="ignored_fields=domain"):
        load(PluginRef("task", task), "task").hook.load_dataset(path="", split="test")
    back = load(PluginRef("task", task, {"ignored_fields": "domain"}), "task")
    read = list(back.hook.load_dataset(path="", split="test"))
    assert [example.domain for example in read] == [example.domain for example in examples]


def test_there_and_back_again_is_the_same_task(exported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task, items = exported
    name = export(task.name, tmp_path)
    monkeypatch.syspath_prepend(tmp_path / name)
    back = load(PluginRef("task", f"verifiers:{name}"), "task")
    assert back.hook.description() == " ".join(task.hook.description().split())
    assert back.hook.output_instruction() == task.hook.output_instruction()
    examples = list(back.hook.load_dataset(path="", split="test"))
    assert [(e.input, e.output) for e in examples[: len(items)]] == [(i.data.input, i.data.answer) for i in items]
    for item in items[:10]:
        for output in (*WILD, f"<answer> {item.data.answer} </answer>", f"#### {item.data.answer}"):
            arguments = {"output": output, "label": item.data.answer, "input": item.data.input}
            assert back.hook.reward(**arguments) == task.hook.reward(**arguments)


@pytest.mark.parametrize("command", ["validate", "pytest"])
def test_the_package_works_with_the_tools_of_the_library(command: str, tmp_path: Path) -> None:
    name = export("mednli", tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / name), *sys.path])}
    if command == "pytest":
        arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / name)]
    else:
        code = "import sys; from verifiers.v1.cli.validate import main; main()"
        flags = ["--only-gold", "--runtime.type", "subprocess", "--rich", "False", "--select.limit", "5"]
        arguments = ["-c", code, name, *flags]
    ran = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if command == "validate":
        (results,) = tmp_path.glob("outputs/**/results.jsonl")
        rows = [json.loads(line) for line in results.read_text().splitlines()]
        assert [row["valid"] for row in rows] == [True] * 5
