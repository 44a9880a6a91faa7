"""The retriever bm25 on the real engine."""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dsrl_bm25 import BM25Retriever
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrl.corpus.reader import Corpus
from dsrl.errors import DataError, SettingsError, StoreError
from dsrl.plugins.binding import load
from dsrl.types import Passage, PluginRef

MEDQUAD = Path(__file__).parents[4] / "shared" / "data" / "medquad"

TEXTS = [
    ("fever", "Fever is a raised body temperature. Paracetamol lowers fever."),
    ("cough", "A cough that lasts for weeks should be examined."),
    ("running", "Runners ran a race and were running home."),
    ("blood", "Blood pressure is measured in millimetres of mercury."),
    ("untitled", 'Naïve 血圧 c++ x86_64 foo^2 "quoted" a:b AND OR NOT \x00 \x07 end'),
]
PASSAGES = [Passage(name, text, name.title()) for name, text in TEXTS[:4]] + [Passage(*TEXTS[4])]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> tuple[BM25Retriever, Path]:
    retriever, directory = BM25Retriever(), tmp_path_factory.mktemp("index")
    assert retriever.index(PASSAGES, directory, 0) == 5
    return retriever, directory


def test_it_is_installed_under_its_name() -> None:
    plugin = load(PluginRef("retriever", "bm25", {"language": "german", "heap_mb": "64", "threads": "1"}), "retriever")
    assert (plugin.name, plugin.distribution) == ("bm25", "dsrl-bm25")


@pytest.mark.parametrize(
    ("keywords", "best"),
    [
        (["fever"], "fever"),
        (["COUGHING"], "cough"),
        (["run"], "running"),
        (["mercury", "pressure"], "blood"),
        (["Fever medicine", "paracetamol"], "fever"),
        (["血圧"], "untitled"),
    ],
)
def test_search(index: tuple[BM25Retriever, Path], keywords: list[str], best: str) -> None:
    retriever, directory = index
    assert retriever.search(directory, keywords, 3)[0].id == best


def test_passages_come_back_as_they_went_in(index: tuple[BM25Retriever, Path]) -> None:
    retriever, directory = index
    found = retriever.search(directory, ["fever cough running blood naïve"], 10)
    assert sorted(found, key=lambda p: p.id) == sorted(PASSAGES, key=lambda p: p.id)
    assert BM25Retriever().search(directory, ["fever cough running blood naïve"], 10) == found


@pytest.mark.parametrize(
    "keywords", [[], [""], ["   "], ["the", "of"], ["?!"], ["\ud800"], ["nowhere"], ["\x00"], ["a" * 100_000]]
)
def test_keywords_that_find_nothing(index: tuple[BM25Retriever, Path], keywords: list[str]) -> None:
    retriever, directory = index
    assert retriever.search(directory, keywords, 5) == []


@pytest.mark.parametrize(
    "keyword", ['"fever', "fever^", "+fever", "-fever", "body:fever", "(fever", "fever*", "[fever TO"]
)
def test_query_syntax_is_only_words(index: tuple[BM25Retriever, Path], keyword: str) -> None:
    retriever, directory = index
    assert [p.id for p in retriever.search(directory, [keyword], 5)] == ["fever"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keywords=st.lists(
        st.text(st.characters(), max_size=30) | st.text('fever"^*?:()[]{}~\\/+-! \x00\ud800'), max_size=5
    ),
    k=st.integers(-1, 50),
)
def test_any_keywords(index: tuple[BM25Retriever, Path], keywords: list[str], k: int) -> None:
    retriever, directory = index
    found = retriever.search(directory, keywords, k)
    assert len(found) <= max(0, min(k, 5))
    assert set(found) <= set(PASSAGES)
    assert found == retriever.search(directory, keywords, k)


def test_scores_are_bm25(tmp_path: Path) -> None:
    """The order is that of the formula, computed here; the engine keeps lengths up to 40 words exactly."""
    words = ["apple", "pear", "plum", "fig"]
    texts = [" ".join(words[(i * j + j) % 4] for j in range(1, 3 + i % 11)) for i in range(40)]
    retriever = BM25Retriever(language="none")
    retriever.index((Passage(f"{i:02}", text) for i, text in enumerate(texts)), tmp_path, 0)
    lengths = [len(text.split()) for text in texts]
    mean = sum(lengths) / len(lengths)

    def score(i: int) -> float:
        counts, total = Counter(texts[i].split()), 0.0
        for word, boost in (("apple", 2), ("plum", 1)):
            containing = sum(word in text.split() for text in texts)
            idf = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
            tf = counts[word]
            total += boost * idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * lengths[i] / mean))
        return total

    best = max(map(score, range(40)))
    wanted = sorted((i for i in range(40) if score(i) > 0), key=lambda i: (-round(score(i) / best, 5), i))
    found = retriever.search(tmp_path, ["apple apple", "plum"], 100)
    assert [int(passage.id) for passage in found] == wanted


@pytest.mark.parametrize("threads", [1, 4])
def test_ties_follow_the_library_also_at_the_cut(tmp_path: Path, threads: int) -> None:
    # Short and long passages by turns: two large groups of equal scores, spread over the segments of several threads.
    passages = [Passage(f"{i:05}", "fever" if i % 2 else "fever and more words") for i in range(5_000)]
    retriever = BM25Retriever(threads=threads, heap_mb=64)
    assert retriever.index(iter(passages), tmp_path, 0) == 5_000
    ranked = [p.id for p in passages[1::2]] + [p.id for p in passages[::2]]
    for k in (1, 7, 2_499, 2_500, 2_600, 5_000, 9_000):
        assert [p.id for p in retriever.search(tmp_path, ["fever"], k)] == ranked[:k]


def test_a_faulty_corpus_frees_the_folder(tmp_path: Path) -> None:
    def broken() -> Iterator[Passage]:
        yield PASSAGES[0]
        raise DataError("x.jsonl:2: broken")

    with pytest.raises(DataError, match="broken"):
        BM25Retriever().index(broken(), tmp_path, 0)
    for left in tmp_path.iterdir():
        left.unlink()
    assert BM25Retriever().index(PASSAGES, tmp_path, 0) == 5


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written to"):
        BM25Retriever().index(PASSAGES, tmp_path / "missing", 0)


def test_an_index_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Remove the folder"):
        BM25Retriever().search(tmp_path, ["fever"], 5)
    (tmp_path / "dsrl-bm25.json").write_text(json.dumps({"language": "english", "format": 2}))
    with pytest.raises(StoreError, match="Remove the folder"):
        BM25Retriever().search(tmp_path, ["fever"], 5)


def test_languages(tmp_path: Path) -> None:
    retriever = BM25Retriever(language="German")
    retriever.index([Passage("1", "Die Häuser sind alt.")], tmp_path, 0)
    assert retriever.search(tmp_path, ["Haus"], 1)[0].id == "1"
    assert retriever.search(tmp_path, ["die"], 1) == []
    with pytest.raises(SettingsError, match="made for the language german, not english"):
        BM25Retriever().search(tmp_path, ["Haus"], 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"language": "klingon"}, "no stemmer for the language 'klingon'"),
        ({"heap_mb": "lots"}, "`heap_mb` must be a whole number of at least 32"),
        ({"heap_mb": 8}, "`heap_mb` must be a whole number of at least 32"),
        ({"threads": 0}, "`threads` must be a whole number of at least 1"),
    ],
)
def test_options_that_do_not_work(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        BM25Retriever(**options)  # type: ignore[arg-type]


LANGUAGES = {
    "chinese": [
        ("高血压是指血压持续升高的疾病。患者应当减少食盐。", ["高血压", "血压", "食盐"]),
        ("肺癌是最常见的癌症之一，吸烟是主要原因。", ["肺癌", "吸烟", "癌"]),
        ("数学归纳法用于证明关于自然数的命题。", ["归纳法", "自然数", "证明命题"]),
    ],
    "japanese": [
        ("糖尿病は血糖値が高くなる病気です。インスリンが必要です。", ["糖尿病", "血糖値", "インスリン", "ｲﾝｽﾘﾝ"]),
        ("電車は東京駅を八時に出発します。", ["東京", "電車"]),
    ],
    "arabic": [
        ("ارتفاع ضغط الدم مرض شائع. يجب على المرضى تقليل الملح.", ["ضغط الدم", "المرض", "مَرَض", "ملح"]),
        ("الحُمّى هي ارتفاع في درجة حرارة الجسم.", ["حمى", "الحمى", "حرارة الجسم"]),
        ("كتب الأديب رواية عن الحياة في المدينة.", ["رواية", "مدينة", "اديب"]),
    ],
    "russian": [
        ("Гипертония — это повышенное давление крови у пациентов.", ["давления", "пациент", "гипертонии"]),
        ("Поезда отправляются из города утром.", ["поезд", "городами"]),
    ],
    "korean": [
        ("환자는 열이 있고 병원에 갔습니다.", ["환자", "병원"]),
        ("기차는 서울에서 출발합니다.", ["서울", "기차"]),
    ],
    "hindi": [("मधुमेह एक बीमारी है जिसमें रक्त शर्करा बढ़ती है।", ["मधुमेह", "रक्त"]), ("रेलगाड़ी दिल्ली से चलती है।", ["दिल्ली"])],
    "thai": [("ผู้ป่วยมีไข้สูงและไอ", ["ไข้", "ผู้ป่วย"]), ("รถไฟออกจากกรุงเทพ", ["กรุงเทพ", "รถไฟ"])],
    "greek": [("Ο ασθενής έχει υψηλή αρτηριακή πίεση.", ["πιεση", "ασθενής"]), ("Το τρένο φεύγει το πρωί.", ["τρένο"])],
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("is_told", [True, False])
def test_a_library_in_any_language_finds_its_passages(tmp_path: Path, language: str, is_told: bool) -> None:
    """Also with the default options, which are made for English."""
    retriever = BM25Retriever(language=language, threads=1, heap_mb=16) if is_told else BM25Retriever()
    others = [text for name in LANGUAGES for text, _ in LANGUAGES[name]]
    passages = [Passage(f"{n}", text) for n, text in enumerate(others)]
    retriever.index(passages, tmp_path, 0)
    for text, keywords in LANGUAGES[language]:
        for keyword in keywords:
            found = [passage.text for passage in retriever.search(tmp_path, [keyword], 3)]
            assert found[:1] == [text], keyword


def test_letters_that_unicode_writes_in_several_ways(tmp_path: Path) -> None:
    passages = [
        Passage("wide", "Ａｓｐｉｒｉｎ 100 mg"),
        Passage("apart", "na\u0131ve cafe\u0301"),
        Passage("usual", "café"),
    ]
    retriever = BM25Retriever()
    retriever.index(passages, tmp_path, 0)
    assert [p.id for p in retriever.search(tmp_path, ["aspirin"], 3)] == ["wide"]
    assert {p.id for p in retriever.search(tmp_path, ["café"], 3)} == {"apart", "usual"}
    assert [p.id for p in retriever.search(tmp_path, ["ｃａｆé"], 3)][:1] == ["usual"]


def test_a_keyword_of_a_thousand_words_is_searched_with_its_most_frequent_ones(tmp_path: Path) -> None:
    retriever = BM25Retriever()
    retriever.index(PASSAGES, tmp_path, 0)
    started = time.perf_counter()
    keywords = [" ".join(f"word{n}" for n in range(50_000)), "fever fever", "漢字" * 50_000]
    assert [p.id for p in retriever.search(tmp_path, ["fever fever", *keywords], 1)] == ["fever"]
    assert time.perf_counter() - started < 10


def test_passages_are_added_in_order_and_what_was_committed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsrl_bm25.COMMIT_EVERY", 1_000)
    passages = [Passage(f"{i:04}", f"fever and number{i}") for i in range(1_000)]

    def broken() -> Iterator[Passage]:
        yield from passages[:700]
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        BM25Retriever().index(broken(), tmp_path, 0)
    retriever = BM25Retriever()
    count = retriever.count(tmp_path)
    assert 600 < count <= 700
    assert retriever.index(iter(passages[count:]), tmp_path, count) == 1_000
    assert [p.id for p in retriever.search(tmp_path, ["fever"], 1_000)] == [p.id for p in passages]
    assert retriever.index(iter(()), tmp_path, 10) == 10
    assert [p.id for p in retriever.search(tmp_path, ["fever"], 1_000)] == [p.id for p in passages[:10]]


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    retriever = BM25Retriever()
    retriever.index(PASSAGES, tmp_path, 0)
    for number, age in ((1, "an older"), (99, "a newer")):
        (tmp_path / "dsrl-bm25.json").write_text(json.dumps({"format": number, "language": "english"}))
        for call in (lambda: BM25Retriever().search(tmp_path, ["fever"], 5), lambda: BM25Retriever().count(tmp_path)):
            with pytest.raises(StoreError, match=f"made by {age} version of dsrl-bm25"):
                call()


@pytest.mark.skipif(not MEDQUAD.exists(), reason=f"the MedQuAD passages are not at {MEDQUAD}")
def test_medquad(tmp_path: Path) -> None:
    retriever, corpus = BM25Retriever(), Corpus([MEDQUAD])
    assert retriever.index(corpus, tmp_path, 0) == corpus.good == 27_254
    found = retriever.search(tmp_path, ["glaucoma", "eye pressure"], 50)
    assert sum("laucoma" in p.title + p.text for p in found) >= 45
    wide = ["disease", "treatment", "symptoms", "blood", "patients"]
    started = time.perf_counter()
    assert len(retriever.search(tmp_path, wide, 10_000)) == 10_000
    assert time.perf_counter() - started < 20
    assert list(retriever.search(tmp_path, wide, 10_000))[:100] == retriever.search(tmp_path, wide, 100)
