"""What a plugin may do wrong, and what the user reads of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DataError, PluginError
from dsrl.plugins.binding import check_contract, load
from dsrl.plugins.discovery import list_plugins
from dsrl.plugins.specs import hookimpl
from dsrl.types import Completion, Example, Message, Passage, PluginRef, Price, Request, Solved

YES_NO = """
import sys
from dsrl import AnswerFormat, Example, Solved, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", ("yes", "no"))
"""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "eval": {"prediction": "x", "label": "y"},
    "reward": {"output": "x", "label": "y"},
    "process_prediction": {"output": "x"},
    "process_label": {"output": "x"},
    "procedural_sample": {"seed": 1, "difficulty": 1, "passage": ""},
    "procedural_solve": {"input": ""},
    "load_dataset": {"path": "", "split": "test"},
}


def call(task: Any, hook: str) -> Any:
    return getattr(task.hook, hook)(**ARGUMENTS.get(hook, {}))


def with_hook(hook: str, body: str) -> str:
    """A task one of whose hooks has this body, as an override has it."""
    return f"import sys\nfrom dsrl import *\nfrom dsrl.types import *\n@hookimpl\ndef {hook}(): {body}\n"


@pytest.fixture
def overridden(bound: Any, tmp_path: Path) -> Callable[[str, str], Any]:
    def made(hook: str, body: str) -> Any:
        path = tmp_path / "mine.py"
        path.write_text(with_hook(hook, body), encoding="utf-8")
        return bound("task", YES_NO, (str(path),))

    return made


def refusal(task: Any, hook: str) -> str:
    with pytest.raises(PluginError) as caught:
        list(call(task, hook))
    return str(caught.value)


# --- plugins that exit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["description", "eval", "reward", "process_prediction", "demos", "load_dataset"])
@pytest.mark.parametrize("code", ["sys.exit(0)", "raise SystemExit", "exit()"])
def test_a_hook_that_exits_is_a_fault_of_its_plugin(overridden: Any, hook: str, code: str) -> None:
    told = refusal(overridden(hook, code), hook)
    assert f"mine.py:5: its hook {hook} failed with SystemExit" in told


def test_a_generator_that_exits_is_a_fault_of_its_plugin(bound: Any) -> None:
    body = "    yield Example('a', 'yes')\n    sys.exit(0)\n"
    task = bound("task", f"{YES_NO}\n@hookimpl\ndef load_dataset():\n{body}")
    assert "its hook load_dataset failed with SystemExit" in refusal(task, "load_dataset")


def test_an_override_that_exits_while_it_is_imported_is_a_fault(bound: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    with pytest.raises(PluginError, match=r"mine\.py:2 cannot be run: SystemExit"):
        bound("task", YES_NO, (str(tmp_path / "mine.py"),))


class Leaving:
    """A fake teacher that ends by whatever it is given."""

    def __init__(self, fault: BaseException, at_once: bool = False) -> None:
        self.fault = fault
        if at_once:
            raise fault

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        raise self.fault

    @hookimpl
    def price(self, model: str) -> Price | None:
        return None


def asked(teacher: Any) -> Any:
    return asyncio.run(teacher.hook.complete(request=Request("solve", "", (Message("user", "?"),), 0.0, 10)))


def test_a_coroutine_hook_that_exits_is_a_fault_of_its_plugin(bound: Any) -> None:
    with pytest.raises(PluginError, match=r"its hook complete failed with SystemExit: 0 \(test_guard\.py:\d+\)"):
        asked(bound("teacher", Leaving, fault=SystemExit(0)))


def test_a_constructor_that_exits_is_a_fault_of_its_plugin(bound: Any) -> None:
    with pytest.raises(PluginError, match=r"cannot be started: SystemExit: 0 \(test_guard\.py:\d+\)"):
        bound("teacher", Leaving, fault=SystemExit(0), at_once=True)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_what_is_no_fault_passes(bound: Any, end: BaseException) -> None:
    with pytest.raises(type(end)):
        asked(bound("teacher", Leaving, fault=end))


def test_a_plugin_that_exits_does_not_end_a_run_as_if_it_were_done(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(with_hook("process_prediction", "sys.exit(0)"), encoding="utf-8")
    command = [sys.executable, "-m", "dsrl", "run", "--task", "mednli", "--samples", "4", "--override", "mine.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "mine.py:5: its hook process_prediction failed with SystemExit" in done.stderr
    assert "Traceback" not in done.stderr


def test_checking_a_plugin_runs_none_of_its_properties(install: Any) -> None:
    class Property(Leaving):
        @property
        def model(self) -> str:
            sys.exit(0)

        @cached_property
        def cached(self) -> str:
            sys.exit(0)

    install("teacher", "with_property", Property)
    (found,) = [found for found in list_plugins("teacher") if found.name == "with_property"]
    check_contract(found)
    load(PluginRef("teacher", "with_property", {"fault": KeyError()}), "teacher")


# --- where a fault lies ----------------------------------------------------------------------------------------------


def test_a_fault_is_told_with_the_innermost_line_of_the_plugins_own_code(bound: Any) -> None:
    source = "\ndef helper(text):\n    return json.loads(text)\n\n@hookimpl\ndef eval(prediction): return helper('{')\n"
    task = bound("task", f"import json{YES_NO}{source}")
    told = refusal(task, "eval")
    line = f"import json{YES_NO}{source}".splitlines().index("    return json.loads(text)") + 1
    assert "failed with JSONDecodeError: Expecting property name" in told
    assert told.endswith(f"_0.py:{line})")


def test_a_fault_in_a_package_is_told_with_the_file_inside_it(install: Any, tmp_path: Path) -> None:
    module = install("task", "packed", "", value="")
    site = next(tmp_path.glob("site*"))
    (site / f"{module}.py").unlink()
    (site / module).mkdir()
    (site / module / "__init__.py").write_text(f"{YES_NO}\nfrom .rules import *\n", encoding="utf-8")
    (site / module / "rules.py").write_text("from dsrl import *\n@hookimpl\ndef eval():\n    1 / 0\n", encoding="utf-8")
    told = refusal(load(PluginRef("task", "packed"), "task"), "eval")
    assert told.endswith(f"failed with ZeroDivisionError: division by zero ({module}/rules.py:4)")


def test_an_exception_that_cannot_be_shown_is_told_by_its_type(bound: Any) -> None:
    source = "class Odd(Exception):\n    def __str__(self): raise self\n@hookimpl\ndef eval(): raise Odd\n"
    assert "failed with Odd (" in refusal(bound("task", YES_NO + source), "eval")


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["'False'", "0", "1", "[]", "1.0", "object"])
def test_eval_must_say_true_or_false(overridden: Any, value: str) -> None:
    assert "its hook eval returned " in (told := refusal(overridden("eval", f"return {value}"), "eval"))
    assert "not bool; return True or False" in told


def test_eval_may_return_a_bool_of_numpy(overridden: Any) -> None:
    assert call(overridden("eval", "import numpy; return numpy.bool_(True)"), "eval") is True
    assert call(overridden("eval", "import numpy; return numpy.array([1])[0] == 2"), "eval") is False


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "-float('inf')", "10 ** 400"])
def test_a_reward_must_be_finite(overridden: Any, value: str) -> None:
    assert "return a finite number" in refusal(overridden("reward", f"return {value}"), "reward")


@pytest.mark.parametrize("value", ["''", "' \\n\\t '"])
def test_a_description_must_not_be_empty(overridden: Any, value: str) -> None:
    told = refusal(overridden("description", f"return {value}"), "description")
    assert "returned an empty text; return the task's description" in told


@pytest.mark.parametrize(
    ("hook", "value", "stored"),
    [
        ("description", "'a\\ud800b'", "a?b"),
        ("input_instruction", "'\\udfff'", "?"),
        ("output_instruction", "'a\\ud800b'", "a?b"),
        ("process_prediction", "'a\\ud800b'", "a?b"),
        ("process_label", "'a\\ud800b'", "a?b"),
        ("domains", "['\\ud800']", ["?"]),
        ("domains", "iter(['\\ud800'])", ["?"]),
        ("demos", "[Example('\\ud800', 'b')]", [Example("?", "b")]),
        ("load_dataset", "iter([Example('a', '\\ud800')])", [Example("a", "?")]),
        ("procedural_sample", "Example('a', '\\ud800')", Example("a", "?")),
        ("procedural_solve", "Solved('\\ud800', 1)", Solved("?", 1)),
    ],
)
def test_text_that_leaves_a_plugin_can_be_stored(overridden: Any, hook: str, value: str, stored: Any) -> None:
    result = call(overridden(hook, f"return {value}"), hook)
    assert (list(result) if hook in ("domains", "demos", "load_dataset") else result) == stored


@pytest.mark.parametrize(
    ("sizes", "is_read", "words"),
    [
        ("{'test': '400'}", "False", "whose size of 'test' is '400', not a number of items"),
        ("{'test': -1}", "False", "whose size of 'test' is -1, not a number of items"),
        ("['test', 400]", "False", "whose sizes are not a mapping"),
        ("{'test': 400}", "'no'", "whose is_read is 'no', not True or False"),
    ],
)
def test_what_is_told_of_a_data_set_is_checked(overridden: Any, sizes: str, is_read: str, words: str) -> None:
    record = "DatasetInfo('a', 'MIT', 'B 2020', 'https://c', {}, is_read={})"
    code = f"from dsrl import DatasetInfo; return {record}"
    good = call(overridden("dataset_info", code.format("{'\\ud800': 4}", "True")), "dataset_info")
    assert (good.id, good.sizes, good.is_read) == ("a", {"?": 4}, True)
    assert words in refusal(overridden("dataset_info", code.format(sizes, is_read)), "dataset_info")


def test_choices_can_be_stored(overridden: Any) -> None:
    task = overridden("answer_format", "return AnswerFormat('tag', ('\\ud800', 'b'))")
    assert task.hook.answer_format().choices == ("?", "b")


class Finding:
    """A fake retriever and sampler that gives what it is given."""

    def __init__(self, found: Any, model: str = "") -> None:
        self.found = found

    @hookimpl
    def index(self, directory: Path) -> int:
        return 1

    @hookimpl
    def search(self, k: int) -> Any:
        return self.found


class Sampling:
    """A fake sampler that gives what it is given."""

    def __init__(self, texts: Any) -> None:
        self.texts = texts

    @hookimpl
    async def sample(self, prompts: Any, n: int) -> Any:
        return self.texts


def sample(sampler: Any) -> Any:
    given = {"n": 1, "temperature": 0.0, "top_p": 1.0, "max_tokens": 1, "seed": 0}
    return asyncio.run(sampler.hook.sample(prompts=["a"], **given))


def test_passages_and_completions_can_be_stored(bound: Any) -> None:
    found = bound("retriever", Finding, found=[Passage("\ud800", "a\udfffb", "\ud801")])
    assert found.hook.search(directory=Path(), keywords=[], k=1) == [Passage("?", "a?b", "?")]
    assert sample(bound("sampler", Sampling, texts=(("a\ud800",),))) == [["a?"]]


@pytest.mark.parametrize("texts", ["text", ["text"], [["a", None]], [[1]], 7, [7]])
def test_completions_that_are_no_texts_are_refused(bound: Any, texts: Any) -> None:
    with pytest.raises(PluginError, match="its hook sample returned"):
        sample(bound("sampler", Sampling, texts=texts))


def test_a_record_with_other_fields_than_texts_is_refused(overridden: Any) -> None:
    told = refusal(overridden("demos", "return [Example('a', 1)]"), "demos")
    assert "returned Example whose output is int, not text (1)" in told


def test_a_list_without_end_and_a_text_too_long_are_refused(overridden: Any) -> None:
    assert "returned more than 1,000,000 items" in refusal(
        overridden("domains", "import itertools; return itertools.repeat('a')"), "domains"
    )
    assert "at most 10,000,000" in refusal(overridden("description", "return 'a' * 10**7 + 'b'"), "description")


def test_an_error_of_the_contract_in_a_data_set_passes(overridden: Any) -> None:
    task = overridden("load_dataset", "from dsrl.errors import DataError; raise DataError('items.csv:3 is no number')")
    with pytest.raises(DataError, match=r"^items\.csv:3 is no number$"):
        call(task, "load_dataset")


def test_lone_surrogates_of_a_task_reach_the_end_of_a_run(tmp_path: Path) -> None:
    source = "from dsrl import hookimpl\n@hookimpl\ndef domains(): return ['fever \\ud800']\n"
    source += "@hookimpl\ndef process_prediction(): return 'entailment \\udfff'\n"
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    flags = ["--samples", "4", "--override", "mine.py", "--stop-after", "verified", "--json"]
    command = [sys.executable, "-m", "dsrl", "run", "--task", "mednli", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"]["verified"] == 4
