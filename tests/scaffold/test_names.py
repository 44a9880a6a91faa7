"""Names of new plugins: what they make, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from dsrl.errors import DsrlError, PluginError, SettingsError
from dsrl.scaffold.names import LONGEST_NAME, Names, check_names


def test_the_names_of_package_module_and_classes_follow_from_the_plugin() -> None:
    names = check_names("retriever", "my_search2")
    assert names == Names("retriever", "my_search2")
    assert (names.module, names.distribution, names.camel) == ("dsrl_my_search2", "dsrl-my-search2", "MySearch2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My-Task", "for example 'my_task'"),
        ("2fast", "begins with a letter"),
        ("a__b", "for example 'a_b'"),
        ("", "cannot be the name"),
        ("../../etc", "for example 'etc'"),
        ("a" * (LONGEST_NAME + 1), f"at most {LONGEST_NAME}"),
        ("caf\u00e9", "cannot be the name"),
        ("a\n", "cannot be the name"),
        ("class", "reserved word; choose another name, for example 'my_class'"),
        ("match", "reserved word"),
        ("task", "reserved word"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_with_a_proposal(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_names("task", name)
    assert words in str(caught.value)


def test_a_name_that_is_taken_is_refused(install: Any) -> None:
    install("task", "lifts", "", distribution="lift-task")
    with pytest.raises(PluginError, match=r"lift-task 1\.0 already has a task 'lifts'"):
        check_names("task", "lifts")
    assert check_names("teacher", "lifts").plugin == "lifts", "another kind may have a plugin of this name"


def test_a_module_that_is_taken_is_refused() -> None:
    with pytest.raises(DsrlError, match="a module 'dsrl_tasks'"):
        check_names("task", "tasks")
