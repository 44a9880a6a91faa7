"""Plugins are found by kind and name, and nothing of them is imported."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import PluginError
from dsrl.plugins.discovery import find_plugin, list_plugins, list_unknown_groups, split_name
from dsrl.plugins.specs import KINDS


def test_a_plugin_is_found_without_being_imported(install: Any) -> None:
    module = install("task", "loud", "raise SystemExit('imported')", distribution="loud-task")
    entry, info = find_plugin("task", "loud")
    assert entry.value == info.target == module
    assert str(info) == "task 'loud' of loud-task 1.0"
    assert info in list_plugins("task")
    assert find_plugin("task", "loud:and more") == (entry, info)
    assert info not in list_plugins("teacher")


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("gsm8k", ("gsm8k", "")),
        ("verifiers:gsm8k", ("verifiers", "gsm8k")),
        ("verifiers:", ("verifiers", "")),
        ("verifiers:who/what@0.1:x", ("verifiers", "who/what@0.1:x")),
        (":what", ("", "what")),
    ],
)
def test_a_name_may_have_an_argument_after_a_colon(typed: str, parts: tuple[str, str]) -> None:
    assert split_name(typed) == parts


def test_the_error_says_if_no_plugin_of_the_kind_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl.plugins.discovery.entry_points", lambda group: ())
    for kind in KINDS:
        with pytest.raises(PluginError, match=f"no {kind} plugin is installed"):
            find_plugin(kind, "any")


def test_the_error_for_an_unknown_plugin_names_the_nearest_and_how_to_install_one() -> None:
    with pytest.raises(PluginError) as caught:
        find_plugin("task", "mednil")
    assert "no task 'mednil' is installed; did you mean mednli" in str(caught.value)
    assert "'dsrl.tasks'" in str(caught.value)
    assert "pip" in str(caught.value)
    with pytest.raises(PluginError, match=r"no teacher 'zzzz' is installed; installed: .*procedural"):
        find_plugin("teacher", "zzzz")


def test_listing_is_sorted_and_shows_a_clash_twice(install: Any) -> None:
    install("task", "zz", "", distribution="b")
    install("task", "zz", "", distribution="a")
    plugins = list_plugins("task")
    assert [p.name for p in plugins] == sorted(p.name for p in plugins)
    assert [p.distribution for p in plugins if p.name == "zz"] == ["a", "b"]
    with pytest.raises(PluginError, match=r"task 'zz' is declared by . 1\.0 and . 1\.0; uninstall one"):
        find_plugin("task", "zz")


def test_an_entry_point_in_an_unknown_group_is_reported(install: Any) -> None:
    assert list_unknown_groups() == []
    install("task", "lost", "", group="dsrl.task")
    (sentence,) = list_unknown_groups()
    assert sentence == (
        "stranger 1.0 declares 'lost' in the group 'dsrl.task', which dsrl does not have; did you mean 'dsrl.tasks'?"
    )
