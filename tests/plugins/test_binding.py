"""Plugins, first as pip installs them (``packages``), then one rule of the contract at a time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from dsrl.answers import AnswerFormat
from dsrl.errors import PluginError, RowRefused, SettingsError, TransientError
from dsrl.plugins.binding import Plugin, check_contract, load, parse_options, takes_option
from dsrl.plugins.discovery import list_plugins
from dsrl.plugins.specs import API_VERSION, KINDS, hookimpl
from dsrl.types import Completion, Message, PluginRef, Price, Reply, Request

PACKAGES = Path(__file__).parent / "packages"
DSRL = "from dsrl.cli import main; main()"


class Scratch:
    """A virtual environment that sees this one's libraries and has packages of its own."""

    def __init__(self, folder: Path, *packages: str) -> None:
        self.folder, self.python = folder, folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        outer = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"
        (site / "outer.pth").write_text(outer, encoding="utf-8")
        self.install(*packages)

    def install(self, *packages: str) -> None:
        # hatchling is there already, so that pip needs no network.
        flags = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        paths = [str(PACKAGES / package) for package in packages]
        command = [sys.executable, "-m", "pip", "--python", str(self.folder), "install", *flags, *paths]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def run(self, code: str, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), "-c", code, *args]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd or self.folder)

    def dsrl(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(DSRL, *args, cwd=cwd)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    packages = ("good", "broken", "misspelt", "wrong-args", "missing", "none-prediction")
    return Scratch(tmp_path_factory.mktemp("scratch") / "venv", *packages)


@pytest.fixture(scope="module")
def clashing(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    return Scratch(tmp_path_factory.mktemp("scratch") / "venv", "clash")


# --- packages that pip has installed ---------------------------------------------------------------------------------


def test_plugins_are_listed_without_being_imported(strangers: Scratch) -> None:
    code = (
        "import json, sys\n"
        "from dsrl.plugins.discovery import list_plugins\n"
        "names = [found.name for found in list_plugins('task')]\n"
        "print(json.dumps([names, [m for m in sys.modules if m.startswith('dsrl_')]]))"
    )
    names, imported = json.loads(strangers.run(code).stdout)
    strangers_names = {"broken", "capitals", "missing", "misspelt", "none_prediction", "wrong_args"}
    assert names == sorted(names)
    assert strangers_names | {"gsm8k", "mednli"} <= set(names)
    assert imported == []


def test_a_plugin_is_loaded_without_the_others(strangers: Scratch) -> None:
    code = (
        "import json, sys\n"
        "from dsrl.plugins.binding import load\n"
        "from dsrl.types import PluginRef\n"
        "task = load(PluginRef('task', sys.argv[1]), 'task')\n"
        "print(json.dumps([task.hook.description(), sorted(m for m in sys.modules if m.startswith('dsrl_'))]))"
    )
    description, imported = json.loads(strangers.run(code, "capitals").stdout)
    assert description == "You are given a country. Name its capital."
    assert imported == ["dsrl_good"]
    description, imported = json.loads(strangers.run(code, "mednli").stdout)
    assert "two sentences about one patient" in description
    assert imported == ["dsrl_tasks", "dsrl_tasks.mednli"]


def test_check_names_distribution_fault_and_mend_and_fails(strangers: Scratch) -> None:
    done = strangers.dsrl("plugins", "--check", "--json")
    assert done.returncode == 1, done.stderr
    faults = {plugin["name"]: plugin["fault"] for plugin in json.loads(done.stdout)}
    assert {name for name, fault in faults.items() if fault} == {
        "broken",
        "misspelt",
        "wrong_args",
        "missing",
        "none_prediction",
    }
    assert "dsrl-broken 1.0 cannot be imported: ModuleNotFoundError" in faults["broken"]
    assert "pip install a_package_that_is_nowhere" in faults["broken"]
    assert "dsrl-misspelt 1.0: 'proces_label' is not a hook of a task" in faults["misspelt"]
    assert "did you mean 'process_label'?" in faults["misspelt"]
    assert "dsrl-wrong-args 1.0: reward has the argument prediction, gold" in faults["wrong_args"]
    assert "reward(output, label, input)" in faults["wrong_args"]
    assert "dsrl-missing 1.0 lacks the mandatory hook description" in faults["missing"]
    assert "process_prediction returned None; return dsrl.UNREADABLE" in faults["none_prediction"]


def test_check_is_readable_for_a_person(strangers: Scratch) -> None:
    done = strangers.dsrl("plugins", "--check")
    assert done.returncode == 1
    assert "'proces_label' is not a hook of a task; did you mean 'process_label'?" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr


def test_check_passes_where_nothing_is_wrong() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DSRL, "plugins", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_plugins_without_check_fails_for_nobody(strangers: Scratch) -> None:
    done = strangers.dsrl("plugins", "--json")
    assert done.returncode == 0
    assert "fault" not in done.stdout
    assert {plugin["kind"] for plugin in json.loads(done.stdout)} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "dsrl-broken 1.0 cannot be imported"),
        ("misspelt", "did you mean 'process_label'?"),
        ("wrong_args", "reward(output, label, input)"),
        ("missing", "lacks the mandatory hook description"),
        ("capital", "did you mean capitals"),
    ],
)
def test_a_faulty_or_unknown_task_is_a_sentence_and_an_exit_code(strangers: Scratch, name: str, words: str) -> None:
    done = strangers.dsrl("tasks", "show", name)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_a_strangers_task_is_shown(strangers: Scratch) -> None:
    shown = json.loads(strangers.dsrl("tasks", "show", "capitals", "--json").stdout)
    assert shown["distribution"] == "dsrl-good"
    assert shown["output_instruction"] == "Give the capital in [square brackets]."
    assert (shown["domains"], shown["demonstrations"], shown["procedural"]) == (["geography"], 1, True)
    told = strangers.dsrl("tasks", "show", "capitals")
    assert told.returncode == 0
    assert "Name its capital." in told.stdout


def test_a_strangers_own_parser_and_reward_are_used(strangers: Scratch) -> None:
    code = (
        "import json\n"
        "from dsrl.plugins.binding import load\n"
        "from dsrl.types import PluginRef\n"
        "hook = load(PluginRef('task', 'capitals'), 'task').hook\n"
        "rewards = [hook.reward(output=o, label='Paris') for o in ('[Paris]', '[Prague]', '[Rome]', 'Paris')]\n"
        "print(json.dumps([rewards, hook.process_label(output='so [Rome] or [Oslo]'), "
        "hook.eval(prediction='oslo', label='Oslo')]))"
    )
    assert json.loads(strangers.run(code).stdout) == [[1.0, 0.5, 0.0, -1.0], "Oslo", False]


def test_a_strangers_task_is_run_by_name(strangers: Scratch, tmp_path: Path) -> None:
    """As far as the base model, which other tests look at."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"")
    (tmp_path / "library.jsonl").write_text('{"text": "Paris lies in France. Geography."}\n', encoding="utf-8")
    flags = ["--samples", "4", "--corpus", "library.jsonl", "--base-model", "model", "--stop-after", "verified"]
    flags += ["--no-decontaminate"]  # its test set holds all countries that it knows
    done = strangers.dsrl("run", "--task", "capitals", *flags, "--teacher-option", "slip=0", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["task"] == "capitals"
    assert outcome["samples"]["verified"] == 4


def test_a_parser_that_returns_none_is_told_what_to_return(strangers: Scratch) -> None:
    code = (
        "from dsrl.plugins.binding import load\n"
        "from dsrl.types import PluginRef\n"
        "hook = load(PluginRef('task', 'none_prediction'), 'task').hook\n"
        "assert hook.process_prediction(output='12') == '12'\n"
        "try:\n"
        "    hook.process_prediction(output='twelve')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)"
    )
    told = strangers.run(code).stdout
    assert told.startswith(
        "PluginError task 'none_prediction' of dsrl-none-prediction 1.0: its hook process_prediction"
    )
    assert "returned None; return dsrl.UNREADABLE" in told


def test_a_clash_names_both_distributions(clashing: Scratch) -> None:
    done = clashing.dsrl("tasks", "show", "mednli")
    assert done.returncode == 1
    assert "task 'mednli' is declared by " in done.stderr
    assert "dsrl-clash 1.0" in done.stderr
    assert "dsrl-tasks 0.1.0" in done.stderr
    assert "uninstall one" in done.stderr
    done = clashing.dsrl("plugins", "--check", "--json")
    assert done.returncode == 1
    faulty = [p for p in json.loads(done.stdout) if p["fault"]]
    assert [(p["name"], p["distribution"]) for p in faulty] == [("mednli", "dsrl-clash"), ("mednli", "dsrl-tasks")]
    assert clashing.dsrl("tasks", "show", "gsm8k").returncode == 0


# --- finding and importing -------------------------------------------------------------------------------------------

YES_NO = """
from dsrl import AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", ("yes", "no"))
"""


def fault_of(kind: str, name: str) -> str:
    """Load a plugin that cannot be loaded; ``check`` must find the same fault."""
    with pytest.raises(PluginError) as caught:
        load(PluginRef(kind, name), kind)
    (found,) = [found for found in list_plugins(kind) if found.name == name]
    with pytest.raises(PluginError) as checked:
        check_contract(found)
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


def test_a_plugin_without_hooks_is_told(install: Any) -> None:
    install("task", "bare", "def description():\n    return 'x'\n")
    assert "task 'bare' of stranger 1.0 has no hook" in fault_of("task", "bare")
    assert "@hookimpl" in fault_of("task", "bare")


def test_an_entry_point_to_nothing_is_told(install: Any) -> None:
    module = install("task", "nothing", YES_NO)
    install("task", "nowhere", YES_NO, distribution="other", value=f"{module}:gone")
    assert "task 'nowhere' of other 1.0 cannot be imported: AttributeError" in fault_of("task", "nowhere")


@pytest.mark.parametrize("source", ["1 / 0", "def (", "raise SystemExit('no')"])
def test_an_import_that_fails_in_any_way_is_told(install: Any, source: str) -> None:
    install("task", "failing", source)
    assert "task 'failing' of stranger 1.0 cannot be imported" in fault_of("task", "failing")


def test_a_missing_dependency_is_told_even_if_its_name_begins_like_the_plugins(install: Any) -> None:
    module = install("task", "first", YES_NO)
    install("task", "second", f"import {module}_extra", distribution="second")
    told = fault_of("task", "second")
    assert f"pip install {module}_extra" in told


def test_a_missing_submodule_of_its_own_is_no_missing_dependency(install: Any) -> None:
    module = install("task", "whole", YES_NO)
    install("task", "part", "", distribution="part", value=f"{module}.gone")
    assert "pip install" not in fault_of("task", "part")


# --- binding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("@hookimpl\ndef reward(output, label, step): return 1", "reward has the argument step"),
        ("@hookimpl\ndef reward(output, label=''): return 1", "reward gives label a default"),
        ("@hookimpl\ndef reward(**all): return 1", "reward has the argument all"),
        ("@hookimpl\nasync def reward(output): return 1", "reward must not be `async def`"),
        ("@hookimpl\ndef zzz(): return 1", "'zzz' is not a hook of a task; the hooks are answer_format"),
        ("@hookimpl(specname='evall')\ndef f(): return 1", "did you mean 'eval'?"),
    ],
)
def test_a_hook_against_the_contract_is_refused(install: Any, source: str, words: str) -> None:
    install("task", "wrong", f"{YES_NO}\n{source}\n")
    told = fault_of("task", "wrong")
    assert "task 'wrong' of stranger 1.0" in told
    assert words in told


def test_a_task_needs_a_parser_or_a_format(install: Any) -> None:
    install("task", "halved", "from dsrl import hookimpl\n@hookimpl\ndef description(): return 'x'\n")
    told = fault_of("task", "halved")
    assert "lacks output_instruction and process_prediction" in told
    assert "answer_format" in told


def test_each_kind_lacks_its_mandatory_hooks(install: Any) -> None:
    class Empty:
        @hookimpl
        def price(self, model: str) -> None: ...

        @hookimpl
        def search(self, k: int) -> None: ...

        @hookimpl
        def close(self) -> None: ...

    for kind, own, lacking in (
        ("teacher", ("price",), "complete"),
        ("retriever", ("search",), "index"),
        ("sampler", ("close",), "sample"),
    ):
        body = {name: vars(Empty)[name] for name in own}
        install(kind, f"empty_{kind}", type("Empty", (), body), distribution=kind)
        assert f"lacks the mandatory hook {lacking}" in fault_of(kind, f"empty_{kind}")
    install("trainer", "empty", "from dsrl import hookimpl\n@hookimpl\ndef trian(job): ...\n", distribution="trainer")
    assert "did you mean 'train'?" in fault_of("trainer", "empty")


def test_a_coroutine_hook_must_be_async(install: Any) -> None:
    class Blocking:
        @hookimpl
        def complete(self, request: Request) -> Completion:
            return Completion(())

        @hookimpl
        def price(self, model: str) -> Price:
            return Price(0, 0)

    install("teacher", "blocking", Blocking)
    assert "complete must be `async def`" in fault_of("teacher", "blocking")


def test_a_hook_may_take_only_the_arguments_that_it_needs(bound: Any) -> None:
    task = bound("task", f"{YES_NO}\n@hookimpl\ndef reward(label): return len(label)\n")
    assert task.hook.reward(output="anything", label="yes") == 3


# --- classes and options ---------------------------------------------------------------------------------------------


class Optioned:
    def __init__(self, word: str, times: int = 1) -> None:
        if times > 3:
            raise ValueError("too often")
        self.word, self.times = word, times

    @property
    def said(self) -> str:
        return self.word * self.times

    @hookimpl
    def description(self) -> str:
        return self.said

    @hookimpl
    def answer_format(self) -> AnswerFormat:
        return AnswerFormat("tag")


def test_a_class_gets_its_options(bound: Any) -> None:
    task = bound("task", Optioned, word="ab", times=2)
    assert task.hook.description() == "abab"
    # pluggy 1.6 looks at cached properties, here that of dsrl's own defaults, before the plugin is bound.
    assert task.hook.process_prediction(output="<answer>yes</answer>", input="") == "yes"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"word": "a", "time": 2}, "has no option time; its options are word, times"),
        ({"times": 2}, "needs the option word"),
    ],
)
def test_a_wrong_option_is_a_mistake_of_the_user(install: Any, options: dict[str, Any], words: str) -> None:
    install("task", "optioned", Optioned)
    with pytest.raises(SettingsError) as caught:
        load(PluginRef("task", "optioned", options), "task")
    assert f"task 'optioned' of stranger 1.0 {words}" in str(caught.value)


def test_a_class_that_fails_to_start_is_told(install: Any) -> None:
    install("task", "optioned", Optioned)
    with pytest.raises(PluginError, match=r"stranger 1\.0 cannot be started: ValueError: too often"):
        load(PluginRef("task", "optioned", {"word": "a", "times": 4}), "task")


def test_check_makes_no_instance(install: Any) -> None:
    install("task", "optioned", Optioned)
    (found,) = [found for found in list_plugins("task") if found.name == "optioned"]
    check_contract(found)


def test_a_module_takes_no_options(install: Any) -> None:
    install("task", "plain", YES_NO)
    with pytest.raises(SettingsError, match="takes no options; remove word"):
        load(PluginRef("task", "plain", {"word": 1}), "task")


def test_a_ref_is_enough_to_bind_again(install: Any) -> None:
    install("task", "optioned", Optioned)
    task = load(PluginRef("task", "optioned", {"word": "ab"}), "task")
    again: Plugin[Any] = load(task.ref, "task")
    assert again.hook.description() == task.hook.description() == "ab"
    assert (task.name, task.distribution, task.version) == ("optioned", "stranger", "1.0")


class Collection:
    """A task that stands for many: the text after the colon of its name says which."""

    def __init__(self, argument: str = "none", times: int = 1) -> None:
        self.said = argument * times

    @hookimpl
    def description(self) -> str:
        return self.said

    @hookimpl
    def answer_format(self) -> AnswerFormat:
        return AnswerFormat("tag")


def test_the_text_after_the_colon_of_a_name_is_an_option(install: Any) -> None:
    install("task", "collection", Collection)
    task = load(PluginRef("task", "collection:a:b", {"times": 2}), "task")
    assert (task.name, task.hook.description()) == ("collection:a:b", "a:ba:b")
    again: Plugin[Any] = load(task.ref, "task")
    assert again.hook.description() == "a:ba:b"
    assert load(PluginRef("task", "collection"), "task").hook.description() == "none"
    assert takes_option("task", "collection:a", "times")


def test_an_argument_that_a_plugin_does_not_take_is_a_mistake_of_the_user(install: Any) -> None:
    install("task", "plain", YES_NO)
    install("task", "optioned", Optioned, distribution="other")
    install("task", "collection", Collection, distribution="third")
    for name in ("plain", "optioned"):
        with pytest.raises(SettingsError, match=f"takes nothing after a colon; write '{name}', not '{name}:x'"):
            load(PluginRef("task", f"{name}:x"), "task")
    with pytest.raises(SettingsError, match="'collection:x' already gives the option argument after the colon"):
        load(PluginRef("task", "collection:x", {"argument": "y"}), "task")
    with pytest.raises(PluginError, match=r"no task 'colection' is installed; did you mean collection"):
        load(PluginRef("task", "colection:x"), "task")


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("k=1", 1),
        ("k=0.5", 0.5),
        ("k=true", True),
        ("k=word", "word"),
        ("k=a=b", "a=b"),
        ("k=", ""),
        ("k=http://x:1/y", "http://x:1/y"),
        ("k=[1, 2]", [1, 2]),
        ("k='1'", "1"),
        (" k = 2", 2),
        ("k=1\nother = 2", "1\nother = 2"),
    ],
)
def test_options_are_toml_values_or_text(pair: str, value: object) -> None:
    assert parse_options((pair,), "--task-option") == {"k": value}


@pytest.mark.parametrize("pair", ["k", "=1", ""])
def test_an_option_without_key_or_value_is_told(pair: str) -> None:
    with pytest.raises(SettingsError, match=r"--task-option .* is not of the form key=value"):
        parse_options((pair,), "--task-option")


# --- overrides -------------------------------------------------------------------------------------------------------


def override(folder: Path, source: str, name: str = "my_override.py") -> str:
    path = folder / name
    path.write_text(f"from dsrl import *\n{source}\n", encoding="utf-8")
    return str(path)


def test_an_override_wins_for_its_hook_and_no_other(bound: Any, tmp_path: Path) -> None:
    path = override(tmp_path, "@hookimpl\ndef reward(output, label): return 7.0")
    task = bound("task", YES_NO, (path,))
    assert task.hook.reward(output="", label="yes") == 7.0
    assert task.hook.description() == "Say yes or no."


def test_an_override_wins_over_a_hook_that_wants_to_be_first(bound: Any, tmp_path: Path) -> None:
    path = override(tmp_path, "@hookimpl\ndef reward(output, label): return 7.0")
    task = bound("task", f"{YES_NO}\n@hookimpl(tryfirst=True)\ndef reward(label): return 1.0\n", (path,))
    assert task.hook.reward(output="", label="yes") == 7.0


def test_the_last_override_wins(bound: Any, tmp_path: Path) -> None:
    paths = [
        override(tmp_path, f"@hookimpl\ndef reward(output, label): return {n}.0", f"override{n}.py") for n in (1, 2)
    ]
    assert bound("task", YES_NO, tuple(paths)).hook.reward(output="", label="yes") == 2.0


def test_an_overridden_answer_format_changes_what_follows_from_it(bound: Any, tmp_path: Path) -> None:
    path = override(tmp_path, "@hookimpl\ndef answer_format(): return AnswerFormat('hashes')")
    task = bound("task", YES_NO, (path,))
    assert task.hook.process_prediction(output="#### 5") == "5"
    assert "####" in task.hook.output_instruction()


def test_an_override_may_hold_whatever_a_module_may(bound: Any, tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom dsrl import hookimpl\n"
        "@dataclass\nclass Weights:\n    right: float = 3.0\n"
        "@hookimpl\ndef reward(output, label): return Weights().right\n"
    )
    path = tmp_path / "with_dataclass.py"
    path.write_text(source, encoding="utf-8")
    assert bound("task", YES_NO, (str(path),)).hook.reward(output="", label="yes") == 3.0


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("\n1 / 0", 3, "ZeroDivisionError"),
        ("def (", 2, "SyntaxError"),
        ("import nowhere_at_all", 2, "ModuleNotFoundError"),
    ],
)
def test_a_broken_override_is_told_by_file_and_line(
    bound: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, line: int, words: str, relative: bool
) -> None:
    path = override(tmp_path, source)
    if relative:
        monkeypatch.chdir(tmp_path)
        path = Path(path).name
    with pytest.raises(PluginError) as caught:
        bound("task", YES_NO, (path,))
    assert f"override file {path}:{line} cannot be run: {words}" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1", "has no hook"),
        ("@hookimpl\ndef rewrd(output): return 1", "did you mean 'reward'?"),
        ("@hookimpl\ndef reward(answer): return 1", "reward has the argument answer"),
    ],
)
def test_an_override_against_the_contract_is_refused(bound: Any, tmp_path: Path, source: str, words: str) -> None:
    path = override(tmp_path, source)
    with pytest.raises(PluginError) as caught:
        bound("task", YES_NO, (path,))
    assert f"override file {path}" in str(caught.value)
    assert words in str(caught.value)


def test_an_override_that_fails_at_work_is_told_by_its_own_name(bound: Any, tmp_path: Path) -> None:
    path = override(tmp_path, "@hookimpl\ndef reward(output, label): return 1 / 0")
    task = bound("task", YES_NO, (path,))
    with pytest.raises(PluginError, match="ZeroDivisionError") as caught:
        task.hook.reward(output="", label="yes")
    assert path in str(caught.value)


def test_an_override_that_is_not_there_is_told(bound: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"override file .*gone\.py does not exist"):
        bound("task", YES_NO, (str(tmp_path / "gone.py"),))
    (tmp_path / "reward.txt").write_text("x", encoding="utf-8")
    with pytest.raises(SettingsError, match="is not a Python file"):
        bound("task", YES_NO, (str(tmp_path / "reward.txt"),))


# --- the guard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "given", "result", "words"),
    [
        ("description", {}, "None", "returned None; return the task's description"),
        ("description", {}, "1", "returned int, not str"),
        ("process_prediction", {"output": "x"}, "1.5", "returned float, not str or Unreadable"),
        ("process_label", {"output": "x"}, "['x']", "returned list, not str or Unreadable"),
        ("reward", {"output": "x", "label": "y"}, "'1'", "returned str, not a number"),
        ("procedural_sample", {"seed": 1, "difficulty": 1, "passage": ""}, "('a', 'b')", "returned tuple, not Example"),
        ("procedural_solve", {"input": ""}, "'yes'", "returned str, not Solved"),
        ("demos", {}, "[('a', 'b')]", "Example"),
        ("demos", {}, "'text'", "returned str"),
        ("domains", {}, "'medicine'", "returned str"),
        ("domains", {}, "[1]", "str"),
    ],
)
def test_a_wrong_result_is_told_with_the_plugins_name(
    bound: Any, hook: str, given: dict[str, Any], result: str, words: str
) -> None:
    source = YES_NO.replace("def description()", "def input_instruction()") if hook == "description" else YES_NO
    task = bound("task", f"{source}\n@hookimpl\ndef {hook}(): return {result}\n")
    with pytest.raises(PluginError) as caught:
        getattr(task.hook, hook)(**given)
    assert f"of stranger-task0 1.0: its hook {hook} returned" in str(caught.value)
    assert words in str(caught.value)


def test_an_exception_of_a_plugin_is_told_with_its_name_and_hook(bound: Any) -> None:
    task = bound("task", f"{YES_NO}\n@hookimpl\ndef eval(prediction): return prediction.upper() + 1\n")
    with pytest.raises(PluginError) as caught:
        task.hook.eval(prediction="yes", label="yes")
    assert "task 'task0' of stranger-task0 1.0: its hook eval failed with TypeError" in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_fault_behind_a_default_is_told_by_the_hook_that_failed(bound: Any) -> None:
    task = bound("task", f"{YES_NO}\n@hookimpl\ndef process_prediction(output): return output[5]\n")
    with pytest.raises(PluginError, match="its hook process_prediction failed with IndexError"):
        task.hook.reward(output="", label="yes")


class Raising:
    """A teacher that answers with whatever ``answer`` gives or raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    @hookimpl
    def price(self, model: str) -> Price | None:
        return None


def asked(teacher: Plugin[Any]) -> Any:
    request = Request("solve", "", (Message("user", "?"),), 0.0, 10)
    return asyncio.run(teacher.hook.complete(request=request))


def test_a_coroutine_hook_is_awaited_and_its_result_given(bound: Any) -> None:
    completion = Completion((Reply("yes"),))
    assert asked(bound("teacher", Raising, answer=completion)) is completion


@pytest.mark.parametrize("fault", [TransientError("429", 3.0), RowRefused("content_filter")], ids=str)
def test_the_errors_of_the_contract_pass_as_they_are(bound: Any, fault: Exception) -> None:
    with pytest.raises(type(fault)) as caught:
        asked(bound("teacher", Raising, answer=fault))
    assert caught.value is fault


def test_any_other_exception_of_a_coroutine_hook_is_told_with_its_name(bound: Any) -> None:
    with pytest.raises(
        PluginError, match=r"of stranger-teacher0 1\.0: its hook complete failed with KeyError: 'choices'"
    ):
        asked(bound("teacher", Raising, answer=KeyError("choices")))


@pytest.mark.parametrize(("answer", "words"), [(None, "returned None; return a Completion"), ("yes", "returned str")])
def test_a_wrong_result_of_a_coroutine_hook_is_told(bound: Any, answer: object, words: str) -> None:
    with pytest.raises(PluginError) as caught:
        asked(bound("teacher", Raising, answer=answer))
    assert f"its hook complete {words}" in str(caught.value)


def test_optional_hooks_may_be_left_out(bound: Any) -> None:
    teacher = bound("teacher", Raising, answer=None)
    assert not any(teacher.implements(hook) for hook in ("prepare", "identity", "aclose"))
    assert teacher.implements("complete")
    assert teacher.hook.price(model="m") is None
    task = bound("task", YES_NO)
    assert task.implements("process_label")
    assert not task.implements("procedural_sample")


@pytest.mark.parametrize(
    "line", ["from dsrl import Hologram", "import dsrl.holograms", "from dsrl.types import Hologram"]
)
def test_a_plugin_that_imports_what_a_newer_dsrl_has_is_refused_with_what_to_do(install, line):
    module = install("task", "newer", line)
    from importlib.util import find_spec

    (info,) = Path(find_spec(module).origin).parent.glob("*.dist-info")
    with (info / "METADATA").open("a") as file:
        file.write("Requires-Dist: data-synthesis-rl<0.4,>=0.3\n")
    with pytest.raises(PluginError) as caught:
        load(PluginRef("task", "newer"), "task")
    text = str(caught.value)
    assert "written for another version of dsrl (it asks for data-synthesis-rl<0.4,>=0.3)" in text
    assert f"this dsrl has version {API_VERSION} of the hook API; upgrade dsrl" in text
    assert "pip install dsrl" not in text, "that is somebody else's package"
