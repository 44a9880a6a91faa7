"""Anybody can write the folder of a base model: nothing in it can send a key, or anything else, to a server."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("openai")


@pytest.fixture
def copied() -> Path:
    """A copy of the model ``tiny``."""
    spec = find_spec("dsrl_transformers.tiny")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(shutil.copytree(spec.submodule_search_locations[0], "copy"))


def test_a_recipe_cannot_name_a_server_for_the_users_key(dsrl, small, copied, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-planted0123456789abcdefghij")
    options = f'base_url = "{server.url}", api_key_env = "OPENAI_API_KEY"'
    (copied / "dsrl.toml").write_text(f'[score]\nname = "openai"\noptions = {{{options}}}\n')
    outcome = dsrl(*small, "--base-model", "./copy")
    assert outcome.code == 2
    assert "copy/dsrl.toml sets [score] name" in outcome.err
    assert server.requests == []
    assert not server.calls
    assert not Path("runs").exists()


def test_a_recipe_of_numbers_is_weaker_than_the_user(dsrl, copied):
    (copied / "dsrl.toml").write_text("[score]\nattempts = 3\n[selection]\nsize = 5\n[train]\nkl_coef = 0.5\n")
    flags = ["run", "--task", "mednli", "--name", "small", "--select", "7", "--base-model", "./copy"]
    assert dsrl(*flags, "--stop-after", "keywords").code == 0
    text = Path("runs/small/run.toml").read_text()
    assert "attempts = 3\n" in text
    assert "select = 7\n" in text
    assert "kl_coef = 0.5\n" in text
