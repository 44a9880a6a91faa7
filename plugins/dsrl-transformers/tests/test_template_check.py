from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dsrl_transformers import template_check
from dsrl_transformers.template_check import check_template

from dsrl import DataError

from .conftest import build_tokenizer

SOUND = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"


def make_tokenizer(template: str) -> Any:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("system", ["", "say yes.", "two\nlines and 'quotes' {{ no code }}"])
def test_a_sound_template(system: str) -> None:
    check_template(make_tokenizer(SOUND), system, "m")


def test_a_template_with_the_text_of_the_user_in_other_letters() -> None:
    check_template(make_tokenizer("{{ messages[0].content | upper }}"), "", "m")


def test_a_template_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "RENDER_SECONDS", 3.0)
    loops = "{% for x in range(90000) %}{% for y in range(90000) %}{% endfor %}{% endfor %}"
    with pytest.raises(
        DataError, match=r"template of m cannot render a prompt: it does not end within 3 s; give --chat"
    ):
        check_template(make_tokenizer(loops), "", "m")


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux only")
def test_a_template_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "_MAX_BYTES", 2**26)
    text = "{% for x in range(9000) %}{% for y in range(9000) %}abc{% endfor %}{% endfor %}"
    with pytest.raises(DataError, match="it needs more than 64 MB of memory"):
        check_template(make_tokenizer(text), "", "m")


def test_a_template_that_fails_when_there_is_an_answer() -> None:
    """The end of a turn is looked for with an answer, when the model is loaded."""
    text = "{{ messages[0].content }}{% if messages[-1].role == 'assistant' %}{{ raise_exception('late') }}{% endif %}"
    with pytest.raises(DataError, match="late"):
        check_template(make_tokenizer(text), "", "m")


def test_a_machine_that_cannot_start_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check.sys, "executable", "/nowhere/python")
    check_template(make_tokenizer(SOUND + "{# another #}"), "", "m")


def test_modules_in_the_folder_of_the_user_are_not_run(tmp_path: Path) -> None:
    for name in ("json.py", "transformers.py", "jinja2.py"):
        (tmp_path / name).write_text("open('ran', 'w').close()")
    file = Path(template_check.__file__).with_name("template_process.py")
    job = {"template": SOUND, "chats": [[{"role": "user", "content": "hi"}]], "values": {"eos_token": "</s>"}}
    job |= {"max_characters": 100, "max_bytes": 2**29}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", str(file)], input=json.dumps(job), capture_output=True, text=True, cwd=tmp_path,
        env=environment, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"texts": ["<user>hi</s>"]}
    assert not (tmp_path / "ran").exists()
