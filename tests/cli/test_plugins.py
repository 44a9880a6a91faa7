"""``dsrl plugins``: list, check, and the forms of version 0.1."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from task_sources import YES_NO

from dsrl.plugins.specs import API_VERSION, KINDS

GOOD = YES_NO + '\n@hookimpl\ndef base_model():\n    return "tiny"\n'
FAULTY = GOOD + "\n\n@hookimpl\ndef proces_label(output):\n    return output\n"
FAULT = "'proces_label' is not a hook of a task; did you mean 'process_label'?"
KEYS = ["kind", "name", "target", "distribution", "version"]


@pytest.fixture
def packages(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks ``good`` and ``faulty`` are installed. Commands see only them, because each check starts a process."""
    from dsrl.cli import plugins

    install("task", "good", GOOD, distribution="good-task")
    install("task", "faulty", FAULTY, distribution="faulty-task")
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))  # for the processes of the checks
    list_all = plugins._list_all
    monkeypatch.setattr(plugins, "_list_all", lambda: [p for p in list_all() if p.distribution.endswith("-task")])


@pytest.mark.parametrize("command", ["plugins", "plugins list"])
def test_all_kinds_are_listed(dsrl: Any, command: str) -> None:
    plugins = json.loads(dsrl(*command.split(), "--json").out)
    assert {plugin["kind"] for plugin in plugins} == set(KINDS)
    assert {tuple(plugin) for plugin in plugins} == {tuple(KEYS)}
    table = dsrl(*command.split()).out
    assert all(plugin["name"] in table for plugin in plugins)


def test_a_list_imports_no_plugin(dsrl: Any, packages: Any, install: Any) -> None:
    install("task", "loud", "raise SystemExit('imported')", distribution="loud-task")
    outcome = dsrl("plugins", "list")
    assert outcome.code == 0
    assert "loud" in outcome.out


def test_one_plugin_is_checked_by_its_name(dsrl: Any, packages: Any) -> None:
    outcome = dsrl("plugins", "check", "good")
    assert outcome.code == 0, outcome.out
    assert "ok" in outcome.out
    assert "faulty" not in outcome.out
    assert outcome.err.strip() == "Checking 1 plugin"
    assert dsrl("plugins", "check", "good", "-q").err == ""


@pytest.mark.parametrize("command", ["plugins check", "plugins --check", "plugins check good faulty"])
def test_a_fault_is_printed_and_sets_the_exit_code(dsrl: Any, packages: Any, command: str) -> None:
    outcome = dsrl(*command.split())
    assert outcome.code == 1
    assert "FAULT" in outcome.out
    assert FAULT in outcome.out
    assert outcome.err.strip() == "Checking 2 plugins"


def test_the_json_of_check(dsrl: Any, packages: Any) -> None:
    outcome = dsrl("plugins", "check", "--json")
    assert outcome.code == 1
    report = json.loads(outcome.out)
    assert list(report) == ["plugins", "unknown_groups"]
    assert {tuple(plugin) for plugin in report["plugins"]} == {(*KEYS, "faults")}
    faults = {plugin["name"]: plugin["faults"] for plugin in report["plugins"]}
    assert faults["good"] == []
    assert len(faults["faulty"]) == 1
    assert FAULT in faults["faulty"][0]


def test_the_json_of_version_0_1(dsrl: Any, packages: Any) -> None:
    outcome = dsrl("plugins", "--check", "--json")
    assert outcome.code == 1
    plugins = json.loads(outcome.out)
    assert {tuple(plugin) for plugin in plugins} == {(*KEYS, "fault")}
    faults = {plugin["name"]: plugin["fault"] for plugin in plugins}
    assert faults["good"] is None
    assert FAULT in faults["faulty"]


def test_an_unknown_group_is_a_fault_of_the_installation_not_of_a_plugin(
    dsrl: Any, packages: Any, install: Any
) -> None:
    install("task", "lost", GOOD, distribution="lost-package", group="dsrl.trainer")
    outcome = dsrl("plugins", "check", "--json")
    (sentence,) = json.loads(outcome.out)["unknown_groups"]
    assert "lost-package 1.0 declares 'lost' in the group 'dsrl.trainer'" in sentence
    assert "did you mean 'dsrl.trainers'?" in sentence
    assert dsrl("plugins", "check", "good").code == 0


def test_an_unknown_name_names_the_nearest(dsrl: Any, packages: Any) -> None:
    outcome = dsrl("plugins", "check", "goood", "faulty")
    assert outcome.code == 1
    assert "no plugin 'goood' is installed; did you mean 'good'? `dsrl plugins list` lists" in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("command", "option"),
    [("plugins --json list", "--json"), ("plugins --check list", "--check"), ("tasks --json show x", "--json")],
)
def test_an_option_that_has_no_effect_is_refused(dsrl: Any, command: str, option: str) -> None:
    outcome = dsrl(*command.split())
    assert outcome.code == 2
    assert f"{option} has no effect before '{command.split()[2]}'; give it afterwards" in outcome.err


# --- catalogues ------------------------------------------------------------------------------------------------------


def test_search_and_info_read_our_catalogue_and_import_nothing(dsrl: Any, install: Any) -> None:
    install("task", "mednli_loud", "raise SystemExit('imported')")
    outcome = dsrl("plugins", "search", "medical", "TASK")
    assert outcome.code == 0
    assert "task mednli" in outcome.out
    assert "installed, hook API 1 (fits)" in outcome.out
    (entry,) = json.loads(dsrl("plugins", "info", "bm25", "--json").out)
    assert (entry["kind"], entry["fits"], entry["install"]) == ("retriever", True, "pip install ./plugins/dsrl-bm25")
    assert "install: pip install ./plugins/dsrl-http ./plugins/dsrl-openai\n" in dsrl("plugins", "info", "openai").out
    assert len(json.loads(dsrl("plugins", "search", "--json").out)) > 8


def test_a_search_without_a_result_and_an_unknown_name(dsrl: Any) -> None:
    outcome = dsrl("plugins", "search", "no such plugin")
    assert (outcome.code, outcome.out) == (0, "")
    assert "No plugin in the catalogue" in outcome.err
    outcome = dsrl("plugins", "info", "mednly")
    assert outcome.code == 1
    assert "did you mean 'mednli'?" in outcome.err


def test_a_catalogue_of_somebody_else_is_read_and_a_newer_hook_api_is_named(dsrl: Any) -> None:
    entry = {"kind": "task", "name": "lifts", "distribution": "lift-task", "version": "1", "summary": "Lifts \x1b[31m."}
    entry |= {"source": "https://example.org/$(reboot).whl", "hook_api": [API_VERSION + 1, API_VERSION + 1]}
    Path("c.json").write_text(json.dumps({"catalogue": 1, "plugins": [entry]}))
    outcome = dsrl("plugins", "info", "lifts", "--catalogue", "c.json")
    assert f"does not fit version {API_VERSION} of this dsrl: upgrade dsrl" in outcome.out
    assert "install: pip install 'lift-task @ https://example.org/$(reboot).whl'\n" in outcome.out
    assert "\x1b" not in outcome.out
    Path("c.json").write_text("{")
    outcome = dsrl("plugins", "search", "--catalogue", "c.json")
    assert (outcome.code, outcome.out) == (1, "")
    assert "catalogue c.json:1: not JSON" in outcome.err
