from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrl.errors import SettingsError
from dsrl.settings import (
    SELECTIONS,
    Settings,
    differences,
    find_setting,
    flag_of,
    list_earlier_values,
    read_settings,
    resolve,
    to_toml,
)

# What a settings file can hold: no lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
options = st.dictionaries(
    texts, st.one_of(st.booleans(), st.integers(-(2**40), 2**40), texts, st.lists(texts)), max_size=3
)


def values_of(setting: Any) -> st.SearchStrategy[Any]:
    """Give the values that a setting may have."""
    meta, default = setting.metadata, getattr(Settings(), setting.name)
    low, high = meta["low"], meta["high"]
    if setting.name == "name":
        return st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)
    if meta["choices"]:
        return st.sampled_from(meta["choices"])
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.integers(low, high if high is not None else 2**60)
    if meta["type"] is float:
        return st.floats(low, high if high is not None else 1e9)
    if isinstance(default, tuple):
        return st.lists(texts.filter(bool), max_size=3).map(tuple)
    if isinstance(default, str):
        # Whose default is empty can be empty; another one needs a value.
        return texts if default == "" else texts.filter(bool)
    return options


valid_settings = st.fixed_dictionaries(
    {"task": st.just("mednli")}, optional={s.name: values_of(s) for s in fields(Settings) if s.name != "task"}
)


def written(folder: Path, text: str, name: str = "settings.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- layers ----------------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers() -> None:
    found = resolve({"task": "mednli"})
    assert (found.samples, found.select, found.votes, found.attempts, found.passages) == (500, 500, 16, 64, 10_000)
    assert (found.teacher_temperature, found.train_temperature, found.attempt_temperature) == (0.7, 1.2, 0.7)
    assert (found.learning_rate, found.group_size, found.batch_size, found.epochs) == (1e-6, 16, 64, 5)
    assert (found.kl_coef, found.max_completion_tokens, found.max_prompt_tokens) == (0.01, 2048, 2048)
    assert (found.selection, found.adapt, found.iterations) == ("potential", True, 1)


#: The settings of version 0.1; all of them are in the names that it made for runs.
VERSION_0_1 = set(
    "name seed iterations task task_instruction dataset_path test_size domain demos override task_option retriever corpus "
    "max_bad passages retriever_option teacher teacher_temperature teacher_max_tokens teacher_option solve_teacher "
    "solve_teacher_option rewrite_teacher rewrite_teacher_option votes vote_confidence retries_unreadable concurrency "
    "requests_per_minute tokens_per_minute budget price batch samples adapt base_model sampler attempts attempt_temperature "
    "sampler_option select selection trainer output_model learning_rate epochs batch_size group_size train_temperature "
    "train_top_p kl_coef max_completion_tokens max_prompt_tokens lora_rank trainer_option device dtype".split()
)


def test_a_setting_that_was_added_later_leaves_the_names_of_earlier_runs_alone() -> None:
    earlier = list_earlier_values()
    assert resolve(earlier, {"task": "mednli"}).name == "mednli-7d2320", "the name that version 0.1 made"
    assert resolve(earlier, {"task": "gsm8k", "samples": 7, "teacher_option": {"a": 1}}).name == "gsm8k-a0cd32"
    assert resolve({"task": "mednli"}).name != "mednli-7d2320", "a default that does something else makes another run"
    assert {s.name for s in fields(Settings) if not s.metadata["since"]} == VERSION_0_1


@pytest.mark.parametrize(("setting", "value"), [("balance", True), ("eval_every", 5), ("eval_data", "train")])
def test_a_later_setting_that_changes_the_result_makes_another_name(setting: str, value: Any) -> None:
    plain, changed = resolve({"task": "mednli"}), resolve({"task": "mednli", setting: value})
    assert changed.name != plain.name
    assert any(change.startswith(f"--{setting.replace('_', '-')}: ") for change in differences(plain, changed))


def test_force_is_no_part_of_a_run() -> None:
    plain, forced = resolve({"task": "mednli"}), resolve({"task": "mednli", "force": True})
    assert forced.name == plain.name
    assert differences(plain, forced) == []


def test_a_settings_file_without_the_later_settings_has_their_defaults(tmp_path: Path) -> None:
    found = resolve(read_settings(written(tmp_path, '[task]\ntask = "mednli"\n[selection]\nselect = 5\n')))
    assert (found.force, found.balance, found.eval_every, found.eval_data) == (False, False, 0, "samples")


def test_a_later_layer_wins_key_by_key() -> None:
    found = resolve({"task": "a", "samples": 1, "votes": 1}, {"samples": 2, "attempts": 2}, {"attempts": 3})
    assert (found.samples, found.votes, found.attempts) == (2, 1, 3)


def test_every_setting_has_its_own_place_flag_and_help() -> None:
    found = fields(Settings)
    assert len({s.metadata["section"] for s in found}) == 9
    assert len({flag_of(s) for s in found}) == len(found)
    for setting in found:
        assert setting.metadata["help"].endswith("."), setting.name
        assert flag_of(setting).startswith("--")


def test_the_teachers_model_stands_behind_the_colon() -> None:
    found = resolve({"task": "t", "teacher": "openai:org/model:free"})
    assert found.teacher_of("write") == ("openai", "org/model:free", {})
    assert resolve({"task": "t"}).teacher_of("write") == ("procedural", "", {})


def test_a_teacher_may_be_another_for_a_job() -> None:
    given = {"task": "t", "teacher": "openai:big", "teacher_option": {"base_url": "http://here"}}
    found = resolve(given, {"solve_teacher": "openai:small", "rewrite_teacher": "anthropic:other"})
    assert found.teacher_of("write") == ("openai", "big", {"base_url": "http://here"})
    assert found.teacher_of("solve") == ("openai", "small", {"base_url": "http://here"}), "on the same server"
    assert found.teacher_of("rewrite") == ("anthropic", "other", {}), "which has other options"
    found = resolve(given, {"solve_teacher": "openai:small", "solve_teacher_option": {"max_n": 1}})
    assert found.teacher_of("solve") == ("openai", "small", {"max_n": 1})
    assert found.teacher_of("rewrite") == found.teacher_of("pattern") == found.teacher_of("write")


# --- settings files --------------------------------------------------------------------------------------------------


def test_a_key_in_a_settings_file_is_the_name_of_the_flag(tmp_path: Path) -> None:
    for setting in fields(Settings):
        assert flag_of(setting) == "--" + setting.name.replace("_", "-")
        assert find_setting(setting.metadata["section"], setting.name) is setting


def test_a_setting_that_stands_twice_under_both_of_its_keys_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "[teacher]\ntemperature = 0.5\nteacher_temperature = 0.7\n")
    with pytest.raises(SettingsError, match=r"\[teacher\] sets teacher_temperature twice"):
        read_settings(path)


def test_no_limit_is_one_value(tmp_path: Path) -> None:
    assert Settings().budget is None
    assert "budget" not in to_toml(resolve({"task": "t"})).get("teacher", {})
    assert read_settings(written(tmp_path, "[teacher]\nbudget = inf\n")) == {"budget": None}, "as version 0.1 wrote it"


def test_a_settings_file_of_version_0_1_is_read_by_its_old_keys(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeff"  # some editors write a byte order mark
        '[task]\nname = "mednli"\ndomain = "medicine"\ndemos = "d.json"\n[synthesis]\nadapt = false\n'
        '[teacher]\nname = "openai:m"\ntemperature = 1\noptions = {base_url = "http://x", retries = 2}\n'
        "[versions]\ndsrl = 7\n",
    )
    assert read_settings(path) == {
        "task": ("mednli",),
        "domain": ("medicine",),
        "demos": ("d.json",),
        "adapt": False,
        "teacher": "openai:m",
        "teacher_temperature": 1.0,
        "teacher_option": {"base_url": "http://x", "retries": 2},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[synthesis]\nsample = 1", ["[synthesis]", "'sample'", "did you mean 'samples'?"]),
        ("[selection]\nzzz = 1", ["[selection]", "'zzz'", "its settings are select, selection"]),
        ("[sythesis]\nsamples = 1", ["[sythesis]", "synthesis"]),
        ("samples = 1", ["samples", "synthesis"]),
        ('[synthesis]\nsamples = "5"', ["[synthesis] samples", "'5'", "a whole number"]),
        ("[synthesis]\nsamples = 5.0", ["[synthesis] samples", "5.0", "a whole number"]),
        ("[synthesis]\nsamples = true", ["[synthesis] samples", "True", "a whole number"]),
        ("[synthesis]\nadapt = 1", ["[synthesis] adapt", "1", "true or false"]),
        ("[train]\nlearning_rate = false", ["[train] learning_rate", "a number"]),
        ('[train]\nlearning_rate = "1e-6"', ["[train] learning_rate", "a number"]),
        ("[task]\nname = 5", ["[task] name", "text"]),
        ("[task]\ndomain = [1]", ["[task] domain", "a list of texts"]),
        ("[task]\ndomain = {a = 1}", ["[task] domain", "a list of texts"]),
        ("[teacher]\noptions = 'slip=1'", ["[teacher] options", "a table"]),
        ("[task\n", ["is not TOML", "line 1"]),
    ],
)
def test_a_wrong_settings_file_is_told_by_file_table_key_and_what_may_stand_there(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_settings(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_settings_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read_settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"[task]\nname = '\xe9'\n")
    with pytest.raises(SettingsError, match=r"latin\.toml is not UTF-8 \(byte 15\)"):
        read_settings(tmp_path / "latin.toml")


# --- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"samples": 0}, "--samples is 0, but must be at least 1"),
        ({"seed": 2**31}, f"--seed is {2**31}, but must be at most {2**31 - 1}"),
        ({"votes": -1}, "--votes is -1, but must be at least 0"),
        ({"group_size": 1}, "--group-size is 1, but must be at least 2"),
        ({"train_top_p": 1.5}, "--train-top-p is 1.5, but must be at most 1.0"),
        ({"attempt_temperature": 0.0}, "--attempt-temperature is 0.0, but must be at least 0.01"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"selection": "best"}, f"--selection is 'best', but must be one of {', '.join(SELECTIONS)}"),
        ({"dtype": "int8"}, "--dtype is 'int8', but must be one of auto"),
        ({"task": ""}, "no task is named; give --task NAME"),
        ({"name": "a/b"}, "--name 'a/b'"),
        ({"name": "../up"}, "--name '../up'"),
        ({"name": "."}, "--name '.'"),
        ({"name": "x" * 101}, "the name of a run is the name of a folder"),
        ({"name": "a\n"}, "the name of a run is the name of a folder"),
    ],
)
def test_a_value_out_of_bounds_is_told_by_its_flag(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve({"task": "mednli"}, wrong)
    assert words in str(caught.value)


# --- run.toml --------------------------------------------------------------------------------------------------------


@given(valid_settings)
@settings(max_examples=80)
def test_settings_survive_the_way_through_a_settings_file(values: dict[str, Any]) -> None:
    found = resolve(values)
    document = tomli_w.dumps(to_toml(found))
    layer: dict[str, Any] = {}
    for section, table in tomllib.loads(document).items():
        for key, value in table.items():
            assert find_setting(section, key) is not None
            layer[key] = tuple(value) if isinstance(value, list) else value
    assert resolve(layer) == found
    assert differences(found, resolve(layer)) == []


def test_run_toml_is_a_settings_file_again(tmp_path: Path) -> None:
    found = resolve({"task": "mednli", "domain": ("a", "b"), "adapt": False, "teacher_option": {"slip": 0.1}})
    path = written(tmp_path, tomli_w.dumps({**to_toml(found), "versions": {"dsrl": "0"}}))
    assert resolve(read_settings(path)) == found
    assert resolve(read_settings(path), {"name": "again"}) == replace(found, name="again")


def test_a_setting_that_is_emptied_stays_empty_or_is_refused(tmp_path: Path) -> None:
    """An empty text where the default is none must not come back from run.toml as the default."""
    for setting in fields(Settings):
        if isinstance(getattr(Settings(), setting.name), str) and getattr(Settings(), setting.name):
            try:
                found = resolve({"task": "mednli", setting.name: ""})
            except SettingsError:
                continue
            path = written(tmp_path, tomli_w.dumps(to_toml(found)))
            assert getattr(resolve(read_settings(path)), setting.name) == "", flag_of(setting)


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_same_settings_make_the_same_name_and_others_another() -> None:
    name = resolve({"task": "mednli"}).name
    assert name.startswith("mednli-")
    assert resolve({"task": "mednli"}).name == name
    assert resolve({"task": "mednli", "concurrency": 7}).name == name
    changed: list[dict[str, Any]] = [{"seed": 1}, {"samples": 3}, {"adapt": False}, {"teacher_option": {"slip": 0}}]
    names = [resolve({"task": "mednli"}, change).name for change in changed]
    assert len({name, *names}) == 5


@given(texts.filter(bool))
def test_a_made_name_is_a_name_that_can_be_given(task: str) -> None:
    name = resolve({"task": task}).name
    assert resolve({"task": task, "name": name}).name == name


def test_a_made_name_is_short_enough_for_a_folder() -> None:
    assert len(resolve({"task": "t" * 300}).name) <= 100


def test_a_task_in_a_file_gives_the_run_the_files_name() -> None:
    assert resolve({"task": "./tasks/my_task.toml"}).name.startswith("my_task-")


# --- going on --------------------------------------------------------------------------------------------------------


def test_differences_name_flags_and_both_values() -> None:
    old = resolve({"task": "mednli", "name": "n"})
    assert differences(old, old) == []
    new = replace(old, samples=3, teacher_option={"slip": 0.5}, concurrency=1)
    assert differences(old, new) == ["--teacher-option: {} -> {'slip': 0.5}", "--samples: 500 -> 3"]
