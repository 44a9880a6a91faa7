from __future__ import annotations

from pathlib import Path

import pytest

from dsrl.errors import SettingsError
from dsrl.plugins.recipes import MAX_SIZE, RECIPE_SETTINGS, Recipe, read_recipe


def written(folder: Path, text: str) -> Path:
    path = folder / "dsrl.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_sets_numbers_and_names_tasks(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "[score]\ntemperature = 1\n[train]\ntemperature = 2\nlearning_rate = 2e-4\n[selection]\nsize = 7\n"
        '[model]\ntasks = ["mednli", "gsm8k"]\n',
    )
    settings = {"attempt_temperature": 1.0, "train_temperature": 2.0, "learning_rate": 2e-4, "select": 7}
    assert read_recipe(path) == Recipe(settings, ("mednli", "gsm8k"))
    assert read_recipe(written(tmp_path, "")) == Recipe()


def test_what_a_recipe_may_set_are_numbers_of_three_tables() -> None:
    assert {s.metadata["section"] for s in RECIPE_SETTINGS.values()} == {"score", "selection", "train"}
    assert [name for name, s in RECIPE_SETTINGS.items() if s.metadata["section"] == "selection"] == ["select"]
    assert "attempts" in RECIPE_SETTINGS
    assert {type(setting.default) for setting in RECIPE_SETTINGS.values()} == {int, float}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[score]\nname = "openai"\n', "sets [score] name"),
        ('[score]\nbase_model = "x/y"\n', "sets [score] base_model"),
        ('[score.options]\nbase_url = "http://127.0.0.1"\n', "sets [score] options"),
        ('[train]\noutput_model = "/tmp/x"\n', "sets [train] output_model"),
        ("[train]\nlearning_rat = 1\n", "sets [train] learning_rat"),
        ('[selection]\nrule = "easy"\n', "sets [selection] rule"),
        ("[synthesis]\nsamples = 1\n", "sets [synthesis] samples"),
        ("[synthesis]\n", "sets [synthesis]"),
        ("[versions]\ndsrl = 1\n", "sets [versions] dsrl"),
        ('[model]\nname = "x"\n', "sets [model] name"),
        ("seed = 1\n", "sets the key seed"),
        ('["\\u001b[31m"]\nx = 1\n', r"sets [\x1b[31m] x"),
        ('[train]\nepochs = "5"\n', "[train] epochs must be a number"),
        ("[train]\nepochs = true\n", "[train] epochs is True, but must be a whole number"),
        ("[train]\nepochs = 0\n", "[train] epochs is 0, but must be at least 1"),
        ("[train]\nepochs = " + "9" * 400 + "\n", "[train] epochs must be a number of at most"),
        ("[train]\nepochs = " + "9" * 5000 + "\n", "is not TOML"),
        ("[train]\nkl_coef = inf\n", "[train] kl_coef must be a number of at most"),
        ("[train]\nkl_coef = nan\n", "[train] kl_coef must be a number of at most"),
        ("[model]\ntasks = 'mednli'\n", "[model] tasks must be a list"),
        ("[model]\ntasks = [1]\n", "[model] tasks must be a list"),
        ("[train\n", "is not TOML"),
        ("x = " + "[" * 10_000, "is nested too deeply"),
        ("#" * (MAX_SIZE + 1), "is longer than 16 KiB"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
