"""How the settings of a run come about before it is opened."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from task_sources import YES_NO

import dsrl
from dsrl import Prompt, hookimpl
from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.setup import resolve_settings

BASE_MODEL = """
@hookimpl
def base_model():
    return {name!r}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of a model whose recipe sets a learning rate."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "dsrl.toml").write_text("[train]\nlearning_rate = 0.5\n")
    return folder


def test_a_task_may_name_the_base_model_that_it_is_meant_for(install: Any, model: Path, tmp_path: Path) -> None:
    install("task", "meant", YES_NO + BASE_MODEL.format(name=str(model)))
    settings = resolve_settings(None, {"task": "meant"})
    assert (settings.base_model, settings.learning_rate) == (str(model), 0.5), "with the recipe of that model"
    assert resolve_settings(None, {"task": "meant", "base_model": "tiny"}).base_model == "tiny"
    file = tmp_path / "settings.toml"
    file.write_text('[task]\ntask = "meant"\n[score]\nbase_model = "tiny"\n')
    assert resolve_settings(file, {}).base_model == "tiny"


def test_a_task_that_names_no_base_model_gets_the_default(install: Any) -> None:
    install("task", "plain", YES_NO)
    assert resolve_settings(None, {"task": "plain"}).base_model == "tiny"


def test_a_task_that_names_an_unknown_base_model_is_refused(install: Any) -> None:
    install("task", "lost", YES_NO + BASE_MODEL.format(name="no such model"))
    with pytest.raises(DataError, match="base model 'no such model' is neither an installed model"):
        resolve_settings(None, {"task": "lost"})


def test_the_base_model_of_several_tasks_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        def __init__(self, model: str) -> None:
            self.hook = self
            self.model = model

        def implements(self, hook: str) -> bool:
            return True

        def base_model(self) -> str:
            return self.model

    models = {"mednli": "tiny", "gsm8k": ""}
    monkeypatch.setattr("dsrl.pipeline.run_tasks.load_task", lambda settings, name: Named(models[name]))
    tasks = {"task": ("mednli", "gsm8k")}
    assert resolve_settings(None, tasks).base_model == "tiny", "the other task names none"
    models["gsm8k"] = "large"
    words = (
        r"name different base models \(mednli is meant for 'tiny'; gsm8k is meant for 'large'\); choose one with --base"
    )
    with pytest.raises(SettingsError, match=words):
        resolve_settings(None, tasks)
    assert resolve_settings(None, {**tasks, "base_model": "tiny"}).base_model == "tiny"


# --- chat template ---------------------------------------------------------------------------------------------------


class FakeChatSampler:
    """Says whether its model has a chat template, and records the prompts."""

    has_template = True
    prompts: list[Prompt]

    def __init__(self, model: str) -> None:
        FakeChatSampler.prompts = []

    @hookimpl
    def has_chat_template(self, system: str) -> bool:
        return self.has_template

    @hookimpl
    async def sample(self, prompts: Sequence[Prompt], n: int) -> list[list[str]]:
        FakeChatSampler.prompts += prompts
        return [["<answer>neutral</answer>"] * n for _ in prompts]


@pytest.fixture
def run(install: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that runs mednli up to the attempts and returns the folder of the run."""
    install("sampler", "chat", FakeChatSampler)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    monkeypatch.chdir(tmp_path)

    def run_to_attempts(**settings: Any) -> Path:
        small: dict[str, Any] = {"task": "mednli", "samples": 4, "votes": 2, "sampler": "chat", "name": "r"}
        small |= {"base_model": str(model)}
        dsrl.run(**{**small, **settings}, stop_after="attempted", progress="none")
        return tmp_path / "runs" / "r"

    return run_to_attempts


@pytest.mark.parametrize(
    ("setting", "has_template", "used"),
    [("auto", True, True), ("auto", False, False), ("on", True, True), ("off", True, False)],
)
def test_the_chat_template_is_used_if_there_is_one_and_the_run_says_so(
    run: Any, monkeypatch: pytest.MonkeyPatch, setting: str, has_template: bool, used: bool
) -> None:
    monkeypatch.setattr(FakeChatSampler, "has_template", has_template)
    folder = run(chat_template=setting, system_prompt="Be short.")
    assert {(prompt.is_chat, prompt.system) for prompt in FakeChatSampler.prompts} == {(used, "Be short.")}
    settings = tomllib.loads((folder / "run.toml").read_text())
    assert settings["model"] == {"chat_template": "on" if used else "off"}
    assert settings["score"].get("chat_template", "auto") == setting


def test_a_template_that_is_demanded_and_missing_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeChatSampler, "has_template", False)
    with pytest.raises(SettingsError, match=r"--chat-template on: the base model .* has no chat template"):
        run(chat_template="on")


def test_a_server_that_chats_for_a_model_without_a_template_is_asked_plainly(run: Any, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text('{"chat_template": null}')
    folder = run()
    assert tomllib.loads((folder / "run.toml").read_text())["model"] == {"chat_template": "off"}
    assert not any(prompt.is_chat for prompt in FakeChatSampler.prompts)


def test_the_decision_stays_when_a_run_is_resumed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(FakeChatSampler, "has_template", False)
    folder = run()
    assert tomllib.loads((folder / "run.toml").read_text())["model"] == {"chat_template": "on"}


def test_a_sampler_without_the_hook_gets_plain_prompts(run: Any, install: Any) -> None:
    class Old:
        def __init__(self, model: str) -> None:
            pass

        @hookimpl
        async def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
            assert not any(getattr(prompt, "is_chat", False) for prompt in prompts)
            return [["<answer>neutral</answer>"] * n for _ in prompts]

    install("sampler", "old", Old, distribution="old")
    folder = run(sampler="old")
    assert tomllib.loads((folder / "run.toml").read_text())["model"] == {"chat_template": "off"}


# --- the trainer chooses -----------------------------------------------------------------------------------------------


def test_doubtful_labels_are_left_out_if_the_trainer_chooses_unless_the_user_wants_them() -> None:
    assert resolve_settings(None, {"task": "mednli", "selection": "online"}).min_agreement == 0.75
    for value in (0.0, 0.5):
        flags = {"task": "mednli", "selection": "online", "min_agreement": value}
        assert resolve_settings(None, flags).min_agreement == value


def test_the_option_of_the_trainer_is_another_form_of_the_selection(tmp_path: Path) -> None:
    flags = {"task": "mednli", "trainer_option": {"choose": "online", "utility": "liveness"}}
    settings = resolve_settings(None, flags)
    assert (settings.selection, settings.trainer_option) == ("online", {"utility": "liveness"})
    assert settings == resolve_settings(
        None, {"task": "mednli", "selection": "online", "trainer_option": {"utility": "liveness"}}
    )
    file = tmp_path / "settings.toml"
    file.write_text('[train.trainer_option]\nchoose = "online"\n')
    assert resolve_settings(file, {"task": "mednli"}).selection == "online"


@pytest.mark.parametrize("flags", [{"trainer_option": {"choose": "x"}}, {"selection": "easy"}])
def test_a_choice_that_is_none_is_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="must be choose=online, which is the same as --selection online"):
        resolve_settings(None, {"task": "mednli", "trainer_option": {"choose": "online"}, **flags})


def test_the_paper_does_not_choose_during_the_training() -> None:
    with pytest.raises(SettingsError, match="--selection online"):
        resolve_settings(None, {"task": "mednli", "trainer_option": {"choose": "online"}}, paper=True)
