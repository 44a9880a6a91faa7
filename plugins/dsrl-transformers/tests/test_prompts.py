from __future__ import annotations

from pathlib import Path

from dsrl_transformers.language_model import load_model
from dsrl_transformers.prompts import render_prompt

from dsrl import Prompt


def test_a_system_text_comes_first() -> None:
    assert render_prompt(Prompt("1 + 1")) == "1 + 1"
    assert render_prompt(Prompt("1 + 1", system="Be short.")) == "Be short.\n\n1 + 1"


def test_the_model_reads_the_system_text(model_dir: Path) -> None:
    lm = load_model(str(model_dir))
    assert lm.encode(Prompt("what?", system="say yes.")) == lm.encode(Prompt("say yes.\n\nwhat?"))
    assert lm.encode(Prompt("")) == [1], "at least one token"
