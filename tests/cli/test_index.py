"""``dsrl index``, and runs on named indexes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsrl.cli.index import _LineReport, describe_progress
from dsrl.corpus.reader import Corpus

TEXTS = [f"The patient with number {n} has a fever and takes aspirin." for n in range(400)]


def write(name: str, texts: list[str]) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "title": f"Title {n}"}) + "\n" for n, text in enumerate(texts)))
    return path


def test_an_index_that_cannot_be_used_is_shown_and_not_searched(dsrl: Any) -> None:
    write("a.jsonl", TEXTS[:20])
    dsrl("index", "build", "a.jsonl", "--name", "wiki")
    home = Path(".dsrl/index/wiki")
    home.rename(home.with_name(".wiki.part"))
    manifest = json.loads((home.with_name(".wiki.part") / "manifest.json").read_text())
    manifest |= {"adding": manifest["sources"][0], "sources": []}
    (home.with_name(".wiki.part") / "manifest.json").write_text(json.dumps(manifest))
    outcome = dsrl("index", "search", "wiki", "fever")
    assert "it is unfinished. The command that was building it goes on if you give it again" in outcome.err
    outcome = dsrl("index", "build", "a.jsonl", "--name", "wiki")
    assert "holds 20 passages" in outcome.out

    (home / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    assert "it is of a newer version of dsrl." in dsrl("index", "search", "wiki", "fever").err
    shown = dsrl("index", "show", "wiki").out
    assert "state: of a newer version of dsrl" in shown
    assert "passages" not in shown


def test_from_a_folder_to_an_answer(dsrl: Any) -> None:
    write("wiki/a.jsonl", TEXTS)
    Path("wiki/test.jsonl").write_text('{"instruction": "i"}\n')
    outcome = dsrl("index", "build", "wiki", "--name", "wiki")
    assert outcome.code == 0, outcome.err
    assert outcome.out == "The index 'wiki' holds 400 passages. Use it with --corpus wiki.\n"
    assert "passed over: wiki/test.jsonl: no field 'text'; the fields are 'instruction'" in outcome.err
    assert "holds this library already: 400 passages" in dsrl("index", "build", "wiki", "--name", "wiki").out

    found = json.loads(dsrl("index", "search", "wiki", "number 17", "-k", "3", "--json").out)
    assert (len(found), found[0]["text"], found[0]["title"]) == (3, TEXTS[17], "Title 17")
    text = dsrl("index", "search", "wiki", "number 17").out
    assert text.startswith("1. Title 17\n   The patient with number 17 has a fever")
    assert "[wiki/a.jsonl:18]" in text
    assert "No passage was found" in dsrl("index", "search", "wiki", "zebra").err

    write("more.jsonl", ["A zebra has stripes."])
    assert (
        dsrl("index", "add", "wiki", "more.jsonl").out
        == "The index 'wiki' holds 401 passages. Use it with --corpus wiki.\n"
    )
    assert "A zebra has stripes." in dsrl("index", "search", "wiki", "zebra").out

    listed = json.loads(dsrl("index", "list", "--json").out)
    assert [(index["name"], index["state"], index["passages"]) for index in listed] == [("wiki", "complete", 401)]
    assert listed == json.loads(dsrl("index", "--json").out)
    assert "wiki" in dsrl("index").out
    shown = dsrl("index", "show", "wiki")
    assert "state: complete" in shown.out
    assert "400 passages, 0 bad lines" in shown.out
    write("more.jsonl", ["A zebra has no stripes."])
    assert "more.jsonl has changed since the index 'wiki' was made" in " ".join(
        dsrl("index", "show", "wiki").err.split()
    )

    assert dsrl("index", "drop", "wiki").code == 0
    outcome = dsrl("index", "search", "wiki", "zebra")
    assert outcome.code == 2
    assert "There is no index 'wiki' in .dsrl/index; there is none." in outcome.err


def test_the_list_says_what_the_embedded_library_holds(dsrl: Any) -> None:
    outcome = dsrl("index", "list")
    assert outcome.out == ""
    assert "There is no index" in outcome.err
    assert "medicine: 220 passages" in " ".join(outcome.err.split())


def test_a_run_uses_an_index_by_its_name(dsrl: Any, small: Any) -> None:
    write("library.jsonl", TEXTS)
    assert dsrl("index", "build", "library.jsonl", "--name", "wiki", "--retriever-option", "language=german").code == 0
    Path("library.jsonl").unlink()
    flags = (*small, "--corpus", "wiki", "--stop-after", "passages")
    outcome = dsrl(*flags)
    assert outcome.code == 0, outcome.err
    assert "400 found" in outcome.err
    assert [path.name for path in Path(".dsrl/index").iterdir() if path.is_dir()] == ["wiki"]
    write("other.jsonl", TEXTS[:300])
    assert dsrl("index", "build", "other.jsonl", "--name", "wiki", "--replace").code == 0
    outcome = dsrl(*flags)
    assert outcome.code == 2
    assert "the passage library has changed since this run began" in " ".join(outcome.err.split())


def test_a_run_on_an_index_whose_library_has_changed_says_so(dsrl: Any, small: Any) -> None:
    path = write("library.jsonl", TEXTS)
    assert dsrl("index", "build", path, "--name", "wiki").code == 0
    write("library.jsonl", TEXTS[:10])
    outcome = dsrl(*small, "--corpus", "wiki", "--stop-after", "passages")
    assert outcome.code == 0
    assert "has changed since the index 'wiki' was made" in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--corpus", "wiki", "--corpus", "library.jsonl"), "a run searches one index"),
        (("--corpus", "wiki", "--retriever", "sqlite"), "no retriever 'sqlite'"),
        (("--corpus", "wiki", "--retriever-option", "language=french"), "made for the language english, not french"),
        (("--corpus", "wik"), "There is no passage library at wik"),
    ],
)
def test_a_run_that_cannot_use_an_index(dsrl: Any, small: Any, flags: tuple[str, ...], words: str) -> None:
    path = write("library.jsonl", TEXTS)
    assert dsrl("index", "build", path, "--name", "wiki").code == 0
    outcome = dsrl(*small, *flags, "--stop-after", "passages")
    assert outcome.code != 0
    assert words in " ".join(outcome.err.split())


def test_a_run_without_passages(dsrl: Any, small: Any) -> None:
    outcome = dsrl(*small, "--passages", "0", "--stop-after", "initial", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["samples"]["initial"] == 24
    assert not Path(".dsrl/index").exists()
    sample = dsrl("show", "small", "--sample", "1-00001")
    assert sample.code == 0


def test_a_domain_that_the_embedded_library_does_not_know(dsrl: Any, small: Any) -> None:
    words = "hardly know the domain 'French poetry'; they hold medicine: 220 passages"
    outcome = dsrl(*small, "--domain", "French poetry", "--domain", "asthma", "--stop-after", "passages")
    assert outcome.code == 0
    assert words in " ".join(outcome.err.split())
    assert "--corpus" in outcome.err
    assert "the domain 'asthma'; they hold" not in " ".join(outcome.err.split())
    write("library.jsonl", TEXTS)
    flags = ("--domain", "French poetry", "--corpus", "library.jsonl", "--name", "own", "--stop-after", "passages")
    assert "hardly know" not in dsrl(*small, *flags).err


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("build", "nowhere", "--name", "a"), "There is no passage library at nowhere", 1),
        (("build", "a.jsonl", "--name", "a/b"), "cannot be the name of an index", 2),
        (("build", "a.jsonl", "--name", "a", "--retriever", "bm52"), "no retriever 'bm52'", 1),
        (("build", "a.jsonl", "--name", "a", "--retriever-option", "language=klingon"), "no stemmer", 2),
        (("build", "a.jsonl"), "Missing option '--name'", 2),
        (("build", "--name", "a"), "Missing argument 'PATH...'", 2),
        (("add", "a", "a.jsonl"), "There is no index 'a'", 2),
        (("link", "theirs", "--name", "a", "--retriever", "bm25"), "bm25 cannot search indexes that other programs", 2),
        (("show", "a"), "There is no index 'a'", 2),
        (("drop", "a"), "There is no index 'a'", 2),
        (("--cache-dir", "x", "list"), "has no effect before 'list'", 2),
    ],
)
def test_wrong_usage(dsrl: Any, arguments: tuple[str, ...], words: str, code: int) -> None:
    write("a.jsonl", TEXTS[:3])
    outcome = dsrl("index", *arguments)
    assert (outcome.code, words in " ".join(outcome.err.split())) == (code, True), outcome.err


def test_bad_lines_are_told(dsrl: Any) -> None:
    path = write("a.jsonl", TEXTS[:3])
    path.write_text(path.read_text() + "{oops\n")
    outcome = dsrl("index", "build", path, "--name", "a", "--json")
    assert json.loads(outcome.out)["bad"] == 1
    assert "1 line(s) were left out:\n  a.jsonl:4: not JSON" in outcome.err


def test_progress_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n')
    corpus = Corpus([path])
    corpus.bytes_read, corpus.bytes_total = 250_000_000, 1_000_000_000
    text = "indexed 50,000 passages (25% of 1,000.0 MB, 500 passages/s, 5 min 0 s left)"
    assert describe_progress(corpus, 50_000, 100.0) == text
    times = iter([0.0, 5.0, 100.0])
    report = _LineReport(corpus, lambda: next(times))
    report.report(2_000)
    assert capsys.readouterr().err == ""
    report.report(50_000)
    assert capsys.readouterr().err == f"{text}\n"
