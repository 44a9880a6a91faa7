"""What the model sees is one thing: in the sampler, in the trainer and in the exported data."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from dsrl_transformers.language_model import load_model
from dsrl_transformers.options import TrainerOptions
from dsrl_transformers.prompts import encode_prompt, find_end_of_turn, has_chat_template
from dsrl_transformers.sampler import TransformersSampler
from dsrl_transformers.training import Training

from dsrl import DataError, Prompt, TrainItem, TrainJob
from dsrl.pipeline.stages.trained import ParquetRow, write_parquet

#: As many templates do, it writes the token for the beginning itself; and it refuses to be given a system text.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' and 'forbidden' in m.content %}{{ raise_exception('no system text') }}{% endif %}"
    "{{ m.role[0] }}: {{ m.content }}<eot>\n{% endfor %}{% if add_generation_prompt %}a: {% endif %}"
)


@pytest.fixture
def chat_dir(model_dir: Path, tmp_path: Path) -> Path:
    """Return the folder of a model whose tokenizer adds a token for the beginning and has a chat template."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "chat"
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<eot>"]})
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    begin = TemplateProcessing(single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 1)])
    tokenizer.backend_tokenizer.post_processor = begin
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_a_plain_prompt_is_the_system_text_and_the_users_text(model_dir: Path) -> None:
    lm = load_model(str(model_dir))
    assert lm.encode(Prompt("what?", system="say yes.")) == lm.encode(Prompt("say yes.\n\nwhat?"))
    assert lm.encode(Prompt("")) == [1], "at least one token"


def test_a_chat_prompt_is_rendered_with_one_token_for_the_beginning(chat_dir: Path) -> None:
    tokenizer = load_model(str(chat_dir)).tokenizer
    ids = encode_prompt(tokenizer, Prompt("hi", "be short", is_chat=True))
    assert tokenizer.decode(ids) == "<bos>s: be short<eot>\nu: hi<eot>\na: "
    assert ids.count(tokenizer.bos_token_id) == 1
    assert encode_prompt(tokenizer, Prompt("hi")).count(tokenizer.bos_token_id) == 1


def test_the_stop_tokens_are_those_of_the_template(chat_dir: Path, model_dir: Path) -> None:
    lm = load_model(str(chat_dir))
    end = lm.tokenizer.convert_tokens_to_ids("<eot>")
    assert find_end_of_turn(lm.tokenizer) == {end}
    assert lm.stop == {2, end}
    assert load_model(str(model_dir)).stop == {2}


def test_sampler_trainer_and_exported_data_have_the_same_tokens(chat_dir: Path, tmp_path: Path) -> None:
    prompt = Prompt("what?", "be short", is_chat=True)
    lm = load_model(str(chat_dir))
    job = TrainJob(
        model=str(chat_dir), items=(TrainItem("1", prompt, "what?", "yes"),), output_dir=tmp_path / "out",
        work_dir=tmp_path / "work", learning_rate=0.0, epochs=1, batch_size=1, group_size=2, temperature=1.0, top_p=1.0,
        kl_coef=0.0, max_completion_tokens=2, max_prompt_tokens=99, seed=0,
    )  # fmt: skip
    training = Training(
        job,
        lambda answers: [0.0] * len(answers),
        lambda answers: [],
        TrainerOptions(9e9, 999, 0, "auto", "skip", "adamw"),
    )
    training.run(lambda step: None)
    assert training.prompts["1"] == lm.encode(prompt)
    write_parquet(tmp_path / "train.parquet", "train", [ParquetRow("t", prompt, "what?", "yes")])
    (row,) = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert row["extra_info"]["chat_template"] is True
    ids = lm.tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
    assert list(ids) == training.prompts["1"], "what another trainer makes of the exported messages"


def test_a_template_that_raises_is_an_error_before_the_run(chat_dir: Path, model_dir: Path) -> None:
    sampler = TransformersSampler(str(chat_dir))
    assert sampler.has_chat_template(system="")
    assert sampler.has_chat_template(system="be short")
    with pytest.raises(
        DataError, match=r"cannot render a prompt: .*no system text.*leave --system-prompt out, or give"
    ):
        sampler.has_chat_template(system="forbidden")
    assert not TransformersSampler(str(model_dir)).has_chat_template(system="")
    with pytest.raises(DataError, match="holds no tokenizer"):
        TransformersSampler(str(chat_dir / "nowhere")).has_chat_template(system="")


@pytest.mark.smollm2
def test_smollm2_answers_through_its_template() -> None:
    folder = os.environ.get("DSRL_SMOLLM2", "")
    if not folder:
        pytest.skip("DSRL_SMOLLM2 does not name a folder made by scripts/make_smollm2.py")
    lm = load_model(folder, dtype="bfloat16")
    assert has_chat_template(lm.tokenizer, "", folder)
    assert lm.stop == {2}
    sampler = TransformersSampler(folder, dtype="bfloat16")

    async def answer(is_chat: bool) -> str:
        prompts = [Prompt("What is the capital of France? Answer in one word.", is_chat=is_chat)]
        ((text,),) = await sampler.sample(prompts, 1, 0.0, 1.0, 12, 0, 0, None)
        return text

    assert "Paris" in asyncio.run(answer(True))
