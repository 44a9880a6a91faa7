"""verl must read the tokens that dsrl's sampler reads."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
from dsrl_verl.prompts import select_prompts

from dsrl import DsrlError, Prompt


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    spec = find_spec("dsrl_transformers.tiny")
    assert spec is not None
    assert spec.submodule_search_locations
    return AutoTokenizer.from_pretrained(spec.submodule_search_locations[0])


def test_a_plain_prompt_gets_a_template_that_writes_the_text(tokenizer: Any, make_job: Any) -> None:
    found = select_prompts(make_job(), tokenizer, 2048)
    assert len(found.items) == 8
    assert found.left_out == 0
    assert found.template is not None
    assert "bos_token" not in found.template


def test_a_token_that_the_tokenizer_adds_is_in_the_template(tokenizer: Any, make_job: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.bos_token = token = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, tokenizer.bos_token_id)]
    )
    found = select_prompts(make_job(), tokenizer, None)
    assert found.template is not None
    assert found.template.startswith("{{ bos_token }}")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {token}", pair=f"$A $B {token}", special_tokens=[(token, tokenizer.bos_token_id)]
    )
    with pytest.raises(DsrlError, match="adds tokens to a text"):
        select_prompts(make_job(), tokenizer, None)


def test_chats_keep_the_models_template(tokenizer: Any, make_job: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    plain = make_job()
    items = tuple(replace(item, prompt=Prompt(str(item.prompt), is_chat=True)) for item in plain.items)
    assert select_prompts(make_job(items=items), tokenizer, None).template is None
    with pytest.raises(DsrlError, match="one template for all"):
        select_prompts(make_job(items=items[:4] + plain.items[4:]), tokenizer, None)


def test_long_prompts_are_left_out(tokenizer: Any, make_job: Any) -> None:
    job = make_job()
    long = replace(job.items[0], id="long", prompt=Prompt("word " * 200))
    found = select_prompts(make_job(items=(*job.items, long)), tokenizer, None)
    assert (found.left_out, [item.id for item in found.items]) == (1, [item.id for item in job.items])
    with pytest.raises(DsrlError, match="None of 1 training items"):
        select_prompts(make_job(items=(long,)), tokenizer, None)
    with pytest.raises(DsrlError, match="None of 8"):
        select_prompts(job, tokenizer, 10)
