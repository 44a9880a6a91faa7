"""Every hook of every contract is documented, and has a test that calls it as the road does."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dsrl.answers import AnswerFormat
from dsrl.errors import PluginError
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.run_tasks import RunTask
from dsrl.pipeline.stages.trained import make_items, make_job
from dsrl.plugins import specs as hookspecs
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import API_VERSION, KINDS, hookimpl
from dsrl.settings import resolve
from dsrl.types import Passage, PluginRef, Prompt, Reward, Sample, TrainJob, TrainStep

ROOT = Path(__file__).parents[2]
PROCEDURAL = "plugins/dsrl-procedural/tests/test_procedural.py"
#: (kind, hook) -> the test that calls it.
TESTS = {
    ("task", "description"): "tests/plugins/test_binding.py::test_a_plugin_is_loaded_without_the_others",
    (
        "task",
        "input_instruction",
    ): "tests/plugins/test_defaults.py::test_the_defaults_of_a_task_follow_from_its_answer_format",
    ("task", "output_instruction"): "tests/plugins/test_binding.py::test_a_strangers_task_is_shown",
    (
        "task",
        "answer_format",
    ): "tests/plugins/test_binding.py::test_an_overridden_answer_format_changes_what_follows_from_it",
    ("task", "demos"): "tests/plugins/test_binding.py::test_a_strangers_task_is_shown",
    ("task", "domains"): "tests/plugins/test_binding.py::test_a_strangers_task_is_shown",
    (
        "task",
        "dataset_info",
    ): "tests/cli/test_tasks.py::test_tasks_show_tells_where_the_data_comes_from_and_its_licence",
    ("task", "load_dataset"): "tests/pipeline/stages/test_evaluated.py::test_items_are_inputs_with_canonical_labels",
    ("task", "process_label"): "tests/plugins/test_defaults.py::test_a_gold_output_may_be_the_bare_answer",
    ("task", "process_prediction"): "tests/plugins/test_binding.py::test_a_strangers_own_parser_and_reward_are_used",
    ("task", "base_model"): "tests/pipeline/test_setup.py::test_a_task_may_name_the_base_model_that_it_is_meant_for",
    ("task", "eval"): "tests/plugins/test_defaults.py::test_the_default_reward_asks_the_tasks_own_eval",
    ("task", "reward"): "tests/plugins/test_binding.py::test_a_strangers_own_parser_and_reward_are_used",
    ("task", "rubric"): "tests/plugins/test_defaults.py::test_a_task_with_a_rubric_needs_no_parser",
    (
        "task",
        "procedural_sample",
    ): f"{PROCEDURAL}::test_the_same_number_is_the_same_reply",
    (
        "task",
        "procedural_solve",
    ): f"{PROCEDURAL}::test_without_slips_every_answer_is_right",
    ("teacher", "complete"): "tests/teaching/test_ledger.py::test_only_gaps_are_asked_for",
    ("teacher", "price"): "tests/teaching/test_ledger.py::test_spending_is_booked_once_and_on_the_run_that_asked",
    ("teacher", "prepare"): f"{PROCEDURAL}::test_a_task_without_rules_is_refused",
    ("teacher", "identity"): "tests/teaching/test_ledger.py::test_the_key_changes_with_whatever_decides_a_reply",
    ("teacher", "aclose"): "tests/teaching/test_ledger.py::test_a_cancelled_request_keeps_what_was_paid_for",
    ("teacher", "max_n"): "tests/teaching/test_ledger.py::test_a_request_for_more_than_one_call_brings_is_split",
    ("teacher", "submit_batch"): "tests/teaching/test_batches.py::"
    "test_what_arrives_together_goes_together_and_is_stored_at_the_price_of_a_batch",
    ("teacher", "find_batch"): "tests/teaching/test_batches.py::test_a_batch_that_got_through_all_the_same_is_found",
    (
        "teacher",
        "poll_batch",
    ): "tests/teaching/test_batches.py::test_a_batch_that_is_out_is_found_again_and_not_submitted_twice",
    ("teacher", "cancel_batch"): "tests/cli/test_batches.py::test_a_batch_is_listed_and_cancelled",
    ("retriever", "index"): "tests/plugins/test_specs.py::test_a_retriever_is_called_with_what_the_contract_says",
    ("retriever", "search"): "tests/plugins/test_specs.py::test_a_retriever_is_called_with_what_the_contract_says",
    ("retriever", "count"): "plugins/dsrl-bm25/tests/test_bm25.py::"
    "test_passages_are_added_in_order_and_what_was_committed_is_counted",
    ("retriever", "link"): "tests/corpus/test_named.py::test_an_index_of_another_program_is_linked",
    ("retriever", "drop"): "plugins/dsrl-postgresql/tests/test_postgresql.py::"
    "test_a_table_is_linked_from_another_machine_and_removed_by_its_owner_only",
    ("sampler", "sample"): "tests/pipeline/stages/test_attempted.py::test_each_sample_is_attempted_once",
    ("sampler", "aclose"): "tests/plugins/test_specs.py::test_a_sampler_is_closed_where_it_can_be",
    ("sampler", "close"): "tests/plugins/test_specs.py::test_a_sampler_is_closed_where_it_can_be",
    (
        "sampler",
        "has_chat_template",
    ): "tests/pipeline/test_setup.py::test_the_chat_template_is_used_if_there_is_one_and_the_run_says_so",
    (
        "sampler",
        "check",
    ): "tests/pipeline/test_preflight.py::test_sampler_and_trainer_are_checked_where_the_run_reaches_them",
    (
        "trainer",
        "check",
    ): "tests/pipeline/test_preflight.py::test_sampler_and_trainer_are_checked_where_the_run_reaches_them",
    ("trainer", "takes_several_tasks"): "tests/plugins/test_several_tasks.py::test_a_trainer_of_one_task_is_refused",
    (
        "trainer",
        "takes_judged_tasks",
    ): "tests/plugins/test_several_tasks.py::test_a_trainer_that_cannot_ask_a_judge_is_refused",
    ("trainer", "can_choose"): "tests/pipeline/test_context.py::test_whether_the_trainer_chooses",
    ("sampler", "diagnose"): "tests/plugins/test_diagnosis.py::test_a_plugin_answers_for_itself",
    ("trainer", "diagnose"): "tests/cli/test_doctor.py::test_the_installed_plugins_answer",
    ("trainer", "train"): "tests/plugins/test_specs.py::test_a_trainer_is_given_job_task_and_a_listener",
}


ALL = [(kind.name, hook) for kind in KINDS.values() for hook in kind.hooks]


@pytest.mark.parametrize(("kind", "hook"), ALL)
def test_every_hook_is_documented_and_typed(kind: str, hook: str) -> None:
    known = KINDS[kind].hooks[hook]
    function = getattr(KINDS[kind].spec, hook)
    words = inspect.getdoc(function) or ""
    assert "." in words.partition("\n\n")[0]
    assert "return" in function.__annotations__
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]
    assert all(name in function.__annotations__ for name in parameters)
    marks = function.dsrl_spec
    assert marks["firstresult"]
    assert known.is_mandatory or known.default or "optional" in words.lower(), "says whether it may be left out"
    assert not known.is_mandatory or "mandatory" in words.lower(), "says that it may not be left out"
    assert set(known.optional_arguments) <= set(known.arguments)


def test_every_contract_and_the_page_itself_are_documented() -> None:
    assert inspect.getdoc(hookspecs)
    for name, kind in KINDS.items():
        assert (kind.name, kind.group) == (name, f"dsrl.{name}s")
        assert kind.spec is None or kind.group in (kind.spec.__doc__ or ""), "names its entry-point group"
    assert list(KINDS) == ["task", "teacher", "retriever", "sampler", "trainer", "model"]
    assert API_VERSION == 1


def test_every_hook_has_a_test() -> None:
    assert set(TESTS) == set(ALL)
    for hook, place in TESTS.items():
        path, _, name = place.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (hook, place)


# --- kinds that have no stage of their own here ----------------------------------------------------------------------

TASK = """
from dsrl import AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", ("yes", "no"))
"""
RETRIEVER = """
from dsrl import hookimpl
from dsrl.types import Passage, PluginRef, Prompt, Reward, Sample, TrainJob, TrainStep

class Whole:
    @hookimpl
    def index(self, passages, directory):
        lines = [f"{p.id}\\t{p.text}" for p in passages]
        (directory / "all.tsv").write_text("\\n".join(lines))
        return len(lines)

    @hookimpl
    def search(self, directory, keywords, k):
        rows = [line.split("\\t") for line in (directory / "all.tsv").read_text().splitlines()]
        return [Passage(*row) for row in rows if any(word in row[1] for word in keywords)][:k]
"""


def test_a_retriever_is_called_with_what_the_contract_says(install: Any, tmp_path: Path) -> None:
    module = install("retriever", "module", RETRIEVER)
    install("retriever", "whole", "", distribution="whole", value=f"{module}:Whole")
    hook = load(PluginRef("retriever", "whole"), "retriever").hook
    passages = [Passage("1", "heart and lung"), Passage("2", "heart"), Passage("3", "knee")]
    assert hook.index(passages=iter(passages), directory=tmp_path) == 3
    assert hook.search(directory=tmp_path, keywords=["heart"], k=5) == passages[:2]
    assert hook.search(directory=tmp_path, keywords=["heart", "knee"], k=1) == passages[:1]
    assert hook.search(directory=tmp_path, keywords=['"; DROP'], k=1) == []


def test_a_sampler_is_closed_where_it_can_be(bound: Any) -> None:
    closed: list[str] = []

    class Plain:
        @hookimpl
        async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
            return [["x"] * n for _ in prompts]

    class Closing(Plain):
        @hookimpl
        async def aclose(self) -> None:
            closed.append("closed")

    class Old(Plain):
        @hookimpl
        def close(self) -> None:
            closed.append("old")

    asyncio.run(bound("sampler", Plain).hook.aclose())
    asyncio.run(bound("sampler", Closing).hook.aclose())
    with pytest.warns(FutureWarning, match="is now `async def aclose`"):
        old = bound("sampler", Old)
    asyncio.run(old.hook.aclose())
    assert closed == ["closed", "old"]


def test_a_trainer_is_given_job_task_and_a_listener(bound: Any, tmp_path: Path) -> None:
    class Rewarding:
        @hookimpl
        def train(self, job: TrainJob, task: Plugin[Any], on_step: Callable[[TrainStep], None]) -> None:
            rewards = {item.id: task.hook.reward(output="<answer>yes</answer>", label=item.label) for item in job.items}
            on_step(TrainStep(1, 1, 1.0, {"reward": sum(rewards.values())}, rewards))

    task = bound("task", TASK)
    definition = Definition("d", "", "o")
    samples = [Sample(f"1-{n}", 1, n, "initial", "q", "o", label=label) for n, label in enumerate(("yes", "no"))]
    items = make_items({"": RunTask("t", task, definition)}, samples, {})
    job = make_job(resolve({"task": "t"}), "base", items, tmp_path / "out", tmp_path / "work")
    steps: list[TrainStep] = []
    bound("trainer", Rewarding).hook.train(job=job, task=task, on_step=steps.append)
    assert [step.rewards for step in steps] == [{"1-0": 1.0, "1-1": 0.1}]


# --- arguments that a hook gained ------------------------------------------------------------------------------------


def test_a_caller_may_leave_out_an_optional_argument_and_a_plugin_may_not_take_it(bound: Any) -> None:
    class Takes:
        @hookimpl
        async def sample(self, prompts: Sequence[Prompt], n: int, first: int, adapter: Path | None) -> list[list[str]]:
            return [[f"{prompt} {first + i} {adapter}" for i in range(n)] for prompt in prompts]

    class TakesLess:
        @hookimpl
        async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
            return [[f"{prompt}" for _ in range(n)] for prompt in prompts]

    given: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 1, "seed": 0}
    takes, takes_less = bound("sampler", Takes), bound("sampler", TakesLess)
    assert asyncio.run(takes.hook.sample(prompts=[Prompt("a")], n=2, **given)) == [["a 0 None", "a 1 None"]]
    assert asyncio.run(takes.hook.sample(prompts=[Prompt("a")], n=1, first=4, **given)) == [["a 4 None"]]
    assert asyncio.run(takes_less.hook.sample(prompts=[Prompt("a")], n=1, first=4, **given)) == [["a"]]
    assert takes.accepts("sample", "first")
    assert not takes_less.accepts("sample", "first"), "a caller can learn that its argument has no effect"


def test_the_input_reaches_a_tasks_hooks_through_the_defaults_of_the_others(bound: Any) -> None:
    class Options:
        @hookimpl
        def description(self) -> str:
            return "Choose."

        @hookimpl
        def output_instruction(self) -> str:
            return "Write the letter."

        @hookimpl
        def process_prediction(self, output: str, input: str) -> str:
            return dict(line.split(") ") for line in input.split("; ")).get(output, output)

    hook = bound("task", Options).hook
    question = "A) red; B) blue"
    assert hook.process_label(output="B", input=question) == "blue"
    assert hook.reward(output="B", label="blue", input=question) == 1.0
    assert hook.reward(output="A", label="blue", input=question) == 0.1


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"format": float("nan")}, "whose part 'format' is nan"),
        ({1: 0.5}, "whose part 1 is 0.5"),
        ({str(n): 0.0 for n in range(101)}, "a Reward of 101 parts; at most 100"),
    ],
)
def test_a_reward_may_have_parts_which_are_checked(bound: Any, parts: dict[Any, Any], words: str) -> None:
    class Parts:
        parts: dict[Any, Any] = {"format": 0.25, "answer": 0.5}  # noqa: RUF012

        @hookimpl
        def description(self) -> str:
            return "d"

        @hookimpl
        def answer_format(self) -> AnswerFormat:
            return AnswerFormat("boxed")

        @hookimpl
        def reward(self) -> Reward:
            return Reward(0.75, self.parts)

    hook = bound("task", Parts).hook
    reward = hook.reward(output="", label="")
    assert (reward, reward.parts) == (0.75, {"format": 0.25, "answer": 0.5})
    Parts.parts = parts
    with pytest.raises(PluginError, match=re.escape(words)):
        hook.reward(output="", label="")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (API_VERSION + 1, f"needs version {API_VERSION + 1} of the hook API"),
        ("1", "dsrl_api is '1'"),
        (0, "dsrl_api is 0"),
    ],
)
def test_a_plugin_for_another_version_of_the_hook_api_is_refused(bound: Any, version: Any, words: str) -> None:
    with pytest.raises(PluginError, match=re.escape(words)):
        bound("task", f"dsrl_api = {version!r}\n{TASK}")
    assert bound("task", f"dsrl_api = {API_VERSION}\n{TASK}").hook.description() == "Say yes or no."
