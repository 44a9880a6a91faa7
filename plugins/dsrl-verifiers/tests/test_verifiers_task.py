"""The task ``verifiers``: environments of the real library as tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("verifiers.v1", reason="the library verifiers is not installed: make test-verifiers")

from hypothesis import given, settings
from hypothesis import strategies as st

from dsrl import UNREADABLE, DataError, DsrlError, PluginError, PluginRef, SettingsError, compute_reward, grade, load
from dsrl.plugins.task_checks.run import CheckSettings, check_task

Environment = Callable[..., str]
#: Any text that can be stored; dsrl replaces surrogates before a task sees them.
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))


def bind(name: str, **options: Any) -> Any:
    return load(PluginRef("task", f"verifiers:{name}", options), "task")


def refuse(name: str, **options: Any) -> str:
    """Return the error of an environment that cannot be a task."""
    with pytest.raises(DsrlError) as caught:
        list(bind(name, **options).hook.load_dataset(path="", split="test"))
    assert name in str(caught.value)
    return str(caught.value)


def test_an_environment_is_a_task_with_its_words_items_and_rewards(environment: Environment) -> None:
    name = environment()
    task = bind(name)
    hook = task.hook
    assert (task.name, task.distribution) == (f"verifiers:{name}", "dsrl-verifiers")
    assert hook.description() == "Add two numbers."
    assert hook.output_instruction() == "Answer in \\boxed{}."
    items = list(hook.load_dataset(path="", split="test"))
    assert len(items) == 12
    assert (items[3].input, items[3].output) == ("What is 3 + 4?", "7")
    assert hook.process_label(output="7", input=items[3].input) == "7"
    assert grade(task, "so \\boxed{7}", "7", items[3].input) == ("7", True)
    assert grade(task, "so \\boxed{8}", "7", items[3].input) == ("8", False)
    assert grade(task, "7", "7", items[3].input) == (UNREADABLE, False)
    reward: Any = compute_reward(task, "so \\boxed{7}", "7", items[3].input)
    assert (reward, reward.parts) == (1.5, {"right": 1.0, "short": 0.5})
    assert compute_reward(task, "so \\boxed{7}" + "." * 40, "7", items[3].input) == 1.0
    assert compute_reward(task, "", "7", items[3].input) == 0.5


def test_every_check_of_a_task_passes(environment: Environment) -> None:
    # Without the reward for a short answer, which garbage earns too.
    name = environment(**{"    @vf.reward(weight=0.5)\n": ""})
    settings = CheckSettings(items=12)
    report = check_task(PluginRef("task", f"verifiers:{name}"), settings, lambda check: None)
    failed = {result.name: result.findings for result in report.results if result.verdict == "failed"}
    assert failed == {}


def test_hooks_work_while_an_event_loop_is_running(environment: Environment) -> None:
    task = bind(environment())

    async def call() -> float:
        return compute_reward(task, "\\boxed{3}", "3", "What is 1 + 2?")

    assert asyncio.run(call()) == 1.5


@settings(max_examples=100)
@given(st.data())
def test_any_output_has_a_reward_and_an_answer_or_none(data: st.DataObject) -> None:
    output = data.draw(st.one_of(TEXTS, TEXTS.map(lambda text: f"\\boxed{{{text}}}"), TEXTS.map("<think>".__add__)))
    task = CACHE["task"]
    answer, is_right = grade(task, output, "3", "What is 1 + 2?")
    assert answer is UNREADABLE or isinstance(answer, str)
    reward: Any = compute_reward(task, output, "3", "What is 1 + 2?")
    assert is_right == (answer == "3")
    assert reward.parts["short"] in (0.0, 0.5)


CACHE: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _cached_task(request: pytest.FixtureRequest, environment: Environment) -> None:
    if request.node.name.startswith("test_any_output"):
        CACHE["task"] = bind(environment())


def test_options_go_to_the_taskset_and_wrong_ones_are_told(environment: Environment) -> None:
    name = environment()
    assert len(list(bind(name, num_tasks=3).hook.load_dataset(path="", split="test"))) == 3
    assert "option num_taks:" in refuse(name, num_taks=3)
    assert "option num_tasks:" in refuse(name, num_tasks="many")


def test_the_user_may_say_everything_himself(environment: Environment) -> None:
    options = {"description": "Sums.", "input_instruction": "A sum.", "output_instruction": "Write \\boxed{N}."}
    hook = bind(environment(), **options, answer_form="boxed", threshold=1.5).hook
    assert (hook.description(), hook.input_instruction(), hook.output_instruction()) == tuple(options.values())
    assert hook.eval(prediction="3", label="3", input="What is 1 + 2?")


def test_a_threshold_says_what_is_right(environment: Environment) -> None:
    name = environment()
    assert "in no form (boxed, tag, hashes, text) do its own answers earn the reward 2" in _refuse_reading(name, 2.0)
    # Half a point is for a short answer, right or not.
    assert bind(name, threshold=0.5).hook.eval(prediction="4", label="3", input="What is 1 + 2?")


def _refuse_reading(name: str, threshold: float) -> str:
    with pytest.raises(PluginError) as caught:
        bind(name, threshold=threshold).hook.process_prediction(output="3", input="")
    return str(caught.value)


@pytest.mark.parametrize(
    ("reward", "form", "output"),
    [
        ("trace.last_reply == self.data.answer", "text", "5"),
        ("'<answer> ' + self.data.answer + ' </answer>' in trace.last_reply", "tag", "hm <answer> 5 </answer>"),
        ("trace.last_reply.endswith('#### ' + self.data.answer)", "hashes", "2 + 3 = 5\n#### 5"),
    ],
)
def test_the_form_of_an_answer_is_found(environment: Environment, reward: str, form: str, output: str) -> None:
    source = {"vf.extract_boxed_answer(trace.last_reply) == self.data.answer": reward}
    task = bind(environment(**source, **{'system_prompt="Answer in \\\\boxed{}.", ': ""}))
    assert task.hook.output_instruction() == "Write the answer in the form that the input asks for."
    assert grade(task, output, "5", "What is 2 + 3?") == ("5", True), form
    assert grade(task, output.replace("5", "6"), "5", "What is 2 + 3?")[1] is False


def test_an_answer_that_is_a_number_is_made_one(environment: Environment) -> None:
    changes = {
        "answer: str": "answer: int",
        "== self.data.answer": "== str(self.data.answer)",
        "str(2 * n + 1)": "2 * n + 1",
    }
    task = bind(environment(**changes))
    assert grade(task, "\\boxed{3}", "3", "What is 1 + 2?") == ("3", True)
    assert grade(task, "\\boxed{three}", "3", "What is 1 + 2?") == (UNREADABLE, False)
    with pytest.raises(DataError, match="the label 'three' is not of the type"):
        compute_reward(task, "\\boxed{3}", "three", "What is 1 + 2?")


def test_an_endless_taskset_is_read_up_to_a_number(environment: Environment) -> None:
    changes = {
        "class Sums(vf.Taskset[SumTask, Config]):\n": "class Sums(vf.Taskset[SumTask, Config]):\n    INFINITE = True\n",
        "range(self.config.num_tasks)": "__import__('itertools').count()",
    }
    assert len(list(bind(environment(**changes), items=7).hook.load_dataset(path="", split="test"))) == 7


def test_another_data_set_can_be_given(environment: Environment, tmp_path: Any) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text('{"input": "What is 9 + 9?", "output": "18"}\n')
    (item,) = bind(environment()).hook.load_dataset(path=str(path), split="test")
    assert (item.input, item.output) == ("What is 9 + 9?", "18")


def test_only_a_taskset_with_splits_has_a_train_set(environment: Environment) -> None:
    with pytest.raises(DataError, match="has no splits"):
        list(bind(environment()).hook.load_dataset(path="", split="train"))
    changes = {
        "num_tasks: int = 12": "num_tasks: int = 12\n    split: str = 'test'",
        'prompt=f"': 'prompt=f"({self.config.split}) ',
    }
    hook = bind(environment(**changes)).hook
    inputs = {split: next(iter(hook.load_dataset(path="", split=split))).input for split in ("train", "test")}
    assert inputs == {"train": "(train) What is 0 + 1?", "test": "(test) What is 0 + 1?"}


TOOLS = """
    @classmethod
    def toolsets(cls, config):
        return [vf.Toolset(vf.ToolsetConfig())]
"""
RUNTIME = (
    "    @vf.reward\n    async def seen(self, trace: vf.Trace, runtime: vf.Runtime) -> float:\n        return 1.0\n"
)
TWO_MESSAGES = "prompt=[vf.UserMessage(content='a'), vf.AssistantMessage(content='b'), vf.UserMessage(content=str(n))]"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("class Config", TOOLS + "\nclass Config", "it gives the model tools"),
        ("class Config", "    NEEDS_CONTAINER = True\n\nclass Config", "it needs a container"),
        (
            "class Config",
            "    async def setup(self, trace, runtime):\n        pass\n\nclass Config",
            "prepare or use a machine (their method setup)",
        ),
        ("class Config", RUNTIME + "\nclass Config", "its reward seen looks into the machine"),
        (
            "class Config",
            "    @vf.stop\n    async def done(self, trace: vf.Trace) -> bool:\n        return True\n\nclass Config",
            "it has several turns",
        ),
        (
            "__all__ = [",
            "class Play(vf.Env[vf.EnvConfig]):\n    async def run(self, task, agents):\n        pass\n\n"
            "__all__ = ['Play', ",
            "several agents",
        ),
        ('prompt=f"What is {n} + {n + 1}?"', TWO_MESSAGES, "not one message of a user in text"),
        ('prompt=f"What is {n} + {n + 1}?", ', "", "not one message of a user in text"),
        ("answer: str", "answer: str\n    hint: str = ''", None),
        ("answer=str(2 * n + 1))", "answer=str(2 * n + 1), workdir='/x')", "values in workdir that do not follow"),
        ("answer: str", "answer: list[str]", "is not a text or a number"),
        ("range(self.config.num_tasks)", "()", "has no items"),
        ("range(self.config.num_tasks)", "1 / 0", "cannot be read: "),
        ("import verifiers", "1 / 0\nimport verifiers", "cannot be loaded: ZeroDivisionError"),
        ("__all__ = ['Sums']".replace("'", '"'), "", "cannot be loaded"),
    ],
)
def test_what_is_more_than_one_question_is_refused(
    environment: Environment, old: str, new: str, words: str | None
) -> None:
    changes = {old: new}
    if "list[str]" in new:
        changes["str(2 * n + 1)"] = "[str(2 * n + 1)]"
    name = environment(**changes)
    if words is None:
        assert list(bind(name).hook.load_dataset(path="", split="test"))
    else:
        assert words in refuse(name)


def test_items_with_more_than_input_and_answer_are_refused_unless_the_user_says_otherwise(
    environment: Environment,
) -> None:
    changes = {
        "answer: str": "answer: str\n    hint: str = ''",
        "answer=str(2 * n + 1)": "answer=str(2 * n + 1), hint=str(n)",
    }
    name = environment(**changes)
    told = refuse(name)
    assert "values in hint that do not follow" in told
    assert "--task-option ignored_fields=hint" in told
    assert list(bind(name, ignored_fields="hint").hook.load_dataset(path="", split="test"))


def test_the_answer_has_to_be_known(environment: Environment) -> None:
    changes = {
        "answer: str": "first: str\n    second: str = ''",
        "self.data.answer": "self.data.first",
        "answer=str": "first=str",
    }
    name = environment(**changes)
    assert "Give --task-option answer_field=FIELD; the fields are first, second" in refuse(name)
    assert "no field 'third'; they have first, second" in refuse(name, answer_field="third")
    task = bind(name, answer_field="first")
    assert grade(task, "\\boxed{3}", "3", "What is 1 + 2?") == ("3", True)


def test_an_environment_without_a_reward_is_refused(environment: Environment) -> None:
    name = environment(**{"    @vf.reward\n": "", "    @vf.reward(weight=0.5)\n": ""})
    assert "it has no reward" in refuse(name)


def test_the_form_before_version_0_4_is_named(environment: Environment) -> None:
    name = environment("def load_environment():\n    return None\n")
    assert "it has the form of verifiers before 0.4 (load_environment)" in refuse(name)


def test_a_wrong_name_is_told() -> None:
    assert "no package with the module 'no_such_environment' is installed" in refuse("no-such-environment")
    for name in ("", "a b", "../x", "a;b"):
        with pytest.raises(SettingsError, match="verifiers:NAME"):
            bind(name).hook.description()
    with pytest.raises(SettingsError, match="verifiers:NAME"):
        load(PluginRef("task", "verifiers"), "task")


@pytest.mark.parametrize("body", ["await __import__('asyncio').sleep(60)", "__import__('time').sleep(3)"])
def test_a_reward_that_does_not_return_is_told(environment: Environment, body: str) -> None:
    old = "        return float(vf.extract"
    task = bind(
        environment(**{old: f"        if 'slow' in trace.last_reply:\n            {body}\n{old}"}), time_limit=0.5
    )
    assert compute_reward(task, "\\boxed{3}", "3", "What is 1 + 2?") == 1.5
    with pytest.raises(PluginError, match="took too long"):
        compute_reward(task, "slow", "3", "What is 1 + 2?")
    assert compute_reward(task, "\\boxed{3}", "3", "What is 1 + 2?") == 1.5


def test_a_reward_that_raises_or_is_no_number_names_the_plugin(environment: Environment) -> None:
    old = "float(vf.extract_boxed_answer(trace.last_reply) == self.data.answer)"
    for new in (
        f"1 / 0 if 'bad' in trace.last_reply else {old}",
        f"float('nan') if 'bad' in trace.last_reply else {old}",
    ):
        task = bind(environment(**{old: new}))
        with pytest.raises(PluginError, match="dsrl-verifiers"):
            compute_reward(task, "bad", "3", "What is 1 + 2?")
