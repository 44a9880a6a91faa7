"""The texts of the tiny model hold nothing of the held-out splits but single words."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from dsrl_tasks.gsm8k import procedural as gsm8k
from dsrl_tasks.logiqa import procedural as logiqa
from dsrl_tasks.math import procedural as math
from dsrl_tasks.mednli import procedural as mednli
from dsrl_tasks.mednli.words import DEV, TEST, Vocabulary
from dsrl_tasks.text2sql import procedural as text2sql

SCRIPT = Path(__file__).parents[1] / "scripts" / "tiny_texts.py"
FORMS = [
    *(mednli.DEV_FORMS, mednli.TEST_FORMS, gsm8k.DEV_FORMS, gsm8k.TEST_FORMS, logiqa.DEV_FORMS, logiqa.TEST_FORMS),
    *(math.DEV_FORMS, math.TEST_FORMS, text2sql.DEV_FORMS, text2sql.TEST_FORMS),
]


@pytest.fixture(scope="module")
def tiny_texts() -> Any:
    spec = importlib.util.spec_from_file_location("tiny_texts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_texts"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def texts(tiny_texts: Any) -> list[str]:
    rng = random.Random(7)
    mixtures = (tiny_texts.SKILLS, tiny_texts.ANSWERS)
    return ["".join(piece for piece, _ in tiny_texts.draw(rng, mixture)) for mixture in mixtures for _ in range(1500)]


def make_pattern(form: str) -> str:
    # Each field of a sentence stands for a few words.
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", form)]
    return r"[\w ]{1,40}".join(parts)


def test_no_text_has_a_sentence_of_a_held_out_split(tiny_texts: Any, texts: list[str]) -> None:
    sentences = [form for form in tiny_texts._list_texts(FORMS) if len(re.sub(r"\{\w+\}", "", form).split()) >= 4]
    assert len(sentences) > 80
    pattern = re.compile("|".join(make_pattern(form) for form in sentences))
    assert [text for text in texts if pattern.search(text)] == []


@pytest.mark.parametrize("split", [DEV, TEST], ids=["dev", "test"])
def test_no_text_has_two_terms_of_one_held_out_split(texts: list[str], split: Vocabulary) -> None:
    terms = re.compile(rf"\b(?:{'|'.join(re.escape(term) for terms in split for term in terms)})\b")
    found = [set(terms.findall(text)) for text in texts]
    assert max(map(len, found)) == 1


def test_both_ways_to_answer_occur_for_both_kinds_of_claims(tiny_texts: Any) -> None:
    rng = random.Random(3)
    for claimed, share in tiny_texts.LABEL_SHARES.items():
        answers = [tiny_texts._write_answer(rng, "yes", claimed) for _ in range(2000)]
        assert set(answers) == {" <answer> entailment </answer>", " <answer> yes </answer>"}
        assert abs(sum("entailment" in answer for answer in answers) / 2000 - share) < 0.05
