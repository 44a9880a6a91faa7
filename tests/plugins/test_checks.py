"""``dsrl plugins check``: the faults that it finds, and that a plugin can neither hang nor end it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from task_sources import YES_NO

from dsrl.errors import PluginError
from dsrl.plugins.binding import check_contract
from dsrl.plugins.checks import TRASH, call_cheap_hooks, check_plugin
from dsrl.plugins.discovery import list_plugins


@pytest.fixture
def faults(install: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that installs a task and checks it."""

    def check(source: str, **arguments: Any) -> list[str]:
        install("task", "checked", source)
        monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))  # for the child process
        (plugin,) = [plugin for plugin in list_plugins("task") if plugin.name == "checked"]
        return check_plugin(plugin, **arguments)

    return check


def test_a_good_task_has_no_faults(faults: Any) -> None:
    assert faults(YES_NO) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("@hookimpl\ndef process_label(output):\n    return output[0]\n", "process_label failed with IndexError"),
        ("@hookimpl\ndef process_prediction(output):\n    return output\n", "an empty answer for ''"),
        ("@hookimpl\ndef eval(prediction):\n    return prediction\n", "its hook eval returned str"),
        (
            "@hookimpl\ndef reward(output):\n    return 1 / len(output)\n",
            "its hook reward failed with ZeroDivisionError",
        ),
        ("@hookimpl\ndef reward(output):\n    import os\n    os._exit(3)\n", "ended its process with exit code 3"),
        (
            "@hookimpl\ndef dataset_info():\n    return 'who/what'\n",
            "its hook dataset_info returned str, not DatasetInfo",
        ),
        ("def reward(output, label):\n    return 5.0\n", "reward has the name of a hook but no mark"),
    ],
)
def test_a_fault_is_found_and_named(faults: Any, source: str, words: str) -> None:
    (fault,) = faults(YES_NO + source)
    assert words in fault


def test_a_demonstration_that_the_task_itself_cannot_read_is_a_fault(faults: Any) -> None:
    source = (
        "@hookimpl\ndef demos():\n    from dsrl import Example\n    return [Example('i', '<answer>perhaps</answer>')]\n"
    )
    (fault,) = faults(YES_NO + source)
    assert "process_label cannot read its demonstration 1" in fault


def test_a_hook_that_does_not_return_is_stopped_and_named(faults: Any) -> None:
    source = "import re\n@hookimpl\ndef process_prediction(output):\n    re.match('(a+)+b', 'a' * 40)\n    return 'x'\n"
    (fault,) = faults(YES_NO + source, time_limit=5.0)
    assert "its hook process_prediction on" in fault
    assert "did not return within 5 s" in fault


def test_an_override_without_a_mark_is_refused(bound: Any, tmp_path: Path) -> None:
    path = tmp_path / "stricter.py"
    path.write_text(
        "from dsrl import hookimpl\n\n@hookimpl\ndef domains():\n    return []\n\ndef reward():\n    return 1\n"
    )
    with pytest.raises(PluginError, match=r"stricter\.py: reward has the name of a hook but no mark"):
        bound("task", YES_NO, (str(path),))


def test_an_imported_function_and_one_behind_another_name_need_no_mark(install: Any) -> None:
    source = """
from json import load as eval

@hookimpl(specname="reward")
def get_reward(output):
    return 1.0

def reward():
    pass
"""
    install("task", "marked", YES_NO + source)
    (plugin,) = [plugin for plugin in list_plugins("task") if plugin.name == "marked"]
    check_contract(plugin)


def test_a_teachers_cheap_hooks_are_called(bound: Any) -> None:
    from dsrl import Price, hookimpl

    class Priced:
        @hookimpl
        async def complete(self, request: Any) -> None:
            return None

        @hookimpl
        def price(self, model: str) -> Price:
            return {"": Price(0, 0)}[model]

    calls = dict(call_cheap_hooks(bound("teacher", Priced)))
    calls["price on ''"]()
    with pytest.raises(PluginError, match="its hook price failed with KeyError"):
        calls["price on 'no such model'"]()
    assert len(TRASH) > 10
