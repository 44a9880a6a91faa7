"""Inputs that are edited before a run is resumed: the error names them, and no run mixes old and new inputs."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tomllib
from pathlib import Path

import pytest

DEMOS = [{"input": "Premise: She has a fever. Hypothesis: She is ill.", "output": "<answer> entailment </answer>"}]
ITEMS = [{"input": f"Premise: bed {i}. Hypothesis: ill.", "output": "neutral"} for i in range(6)]


def lines(path: str, rows: list[dict[str, str]]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hook(name: str, body: str, arguments: str = "", more: str = "") -> str:
    """Write an override file of one hook."""
    text = (
        f"from dsrl import AnswerFormat, Example, hookimpl\n{more}\n\n@hookimpl\ndef {name}({arguments}):\n    {body}\n"
    )
    Path("mine.py").write_text(text)
    stamp = Path("mine.py").stat().st_mtime_ns + 10**9
    os.utime("mine.py", ns=(stamp, stamp))  # Python keeps compiled modules by time in seconds
    return "mine.py"


def asked() -> list[tuple]:
    """Return all requests in the reply store."""
    database = sqlite3.connect(".dsrl/calls.db")
    try:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [(name, database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in sorted(tables)]
    finally:
        database.close()


def refused(outcome, *words: str) -> None:
    assert outcome.code == 2, outcome.err
    for word in (*words, "since this run began. Undo the change, or give --name for a new run"):
        assert word in " ".join(outcome.err.split()), outcome.err


def result(outcome) -> dict:
    assert outcome.code == 0, outcome.err
    found: dict = json.loads(outcome.out)
    return found


# --- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "old", "new", "words"),
    [
        ("description", "", "return 'Decide about cats.'", "return 'Decide about dogs.'", "the task's description"),
        ("domains", "", "return ['fever']", "return ['cough']", "the task's domains have changed"),
        ("demos", "", "return [Example('a', 'b')]", "return [Example('a', 'c')]", "the demonstrations have changed"),
        ("input_instruction", "", "return 'Short.'", "return 'Long.'", "the task's input instruction has changed"),
        (
            "output_instruction",
            "",
            "return 'Say it.'",
            "return 'Write it.'",
            "the task's output instruction has changed",
        ),
        (
            "answer_format",
            "",
            "return AnswerFormat('tag', ('entailment', 'neutral', 'contradiction'))",
            "return AnswerFormat('tag', ('entailment', 'neutral'))",
            "its choices",
        ),
        ("process_prediction", "output", "return output[-1:]", "return output[:1]", "process_prediction, eval"),
        ("eval", "prediction, label", "return prediction == label", "return True", "process_prediction, eval"),
        (
            "procedural_solve",
            "input",
            "return None",
            "return None or None",
            "the task's code for the teacher 'procedural' has changed",
        ),
    ],
)
def test_an_edited_definition_is_refused_by_name_when_samples_are_made_by_it(
    dsrl, small, name, arguments, old, new, words
):
    flags = [*small, "--override", hook(name, old, arguments)]
    assert dsrl(*flags, "--stop-after", "verified").code == 0
    before, database = asked(), sqlite3.connect("runs/small/run.db")
    samples = database.execute("SELECT * FROM samples").fetchall()
    hook(name, new, arguments)
    refused(dsrl(*flags, "--stop-after", "scored"), words)
    assert asked() == before, "nobody was asked for anything"
    assert database.execute("SELECT * FROM samples").fetchall() == samples
    database.close()
    hook(name, f"# a comment changes nothing\n    {old}", arguments)
    assert dsrl(*flags, "--stop-after", "verified").code == 0


def test_edited_demonstrations_are_refused_and_kept_in_the_run(dsrl, small):
    flags = [*small, "--demos", lines("demos.jsonl", DEMOS), "--stop-after", "keywords"]
    assert dsrl(*flags).code == 0
    lines("demos.jsonl", [*DEMOS, {"input": "x", "output": "neutral"}])
    refused(dsrl(*flags), "the demonstrations have changed")
    Path("demos.jsonl").unlink()
    shown = json.loads(dsrl("show", "small", "--json").out)
    assert shown["definition"]["demos"] == DEMOS
    assert "two sentences about one patient" in shown["definition"]["description"]
    assert "demonstrations" in dsrl("show", "small").out


def test_several_edits_are_named_in_one_sentence(dsrl, small):
    flags = [*small, "--override", hook("description", "return 'Cats.'"), "--demos", lines("demos.jsonl", DEMOS)]
    assert dsrl(*flags, "--stop-after", "keywords").code == 0
    hook("description", "return 'Dogs.'")
    lines("demos.jsonl", DEMOS * 2)
    refused(
        dsrl(*flags),
        "run 'small' cannot continue: the task's description has changed, and the demonstrations have changed",
    )


def test_an_edit_before_anything_was_made_is_taken_without_a_word(dsrl, small):
    Path("demos.jsonl").write_text("")
    flags = [*small, "--demos", "demos.jsonl", "--stop-after", "keywords"]
    assert dsrl(*flags, "--teacher-option", "slip=0.5", "--override", hook("description", "return ''[1]")).code == 1
    hook("description", "return 'Cats.'")
    outcome = dsrl(*flags, "--override", "mine.py")
    assert outcome.code == 0, outcome.err
    assert "since this run began" not in outcome.err


def test_an_edited_corpus_is_refused_once_passages_rest_on_it(dsrl, small):
    texts = [{"text": f"The patient of bed {i} has a fever."} for i in range(40)]
    flags = [*small, "--corpus", lines("library.jsonl", texts)]
    assert dsrl(*flags, "--stop-after", "keywords").code == 0
    lines("library.jsonl", texts[:30])
    outcome = dsrl(*flags, "--stop-after", "passages")
    assert outcome.code == 0, outcome.err
    assert "the passage library has changed since this run began" in " ".join(outcome.err.split())
    lines("library.jsonl", texts[:20])
    refused(dsrl(*flags, "--stop-after", "passages"), "the passage library has changed")


def test_an_edited_reward_is_taken_until_it_has_trained_something(dsrl, small):
    flags = [*small, "--override", hook("reward", "return 0.25", "output, label")]
    assert dsrl(*flags, "--stop-after", "selected").code == 0
    hook("reward", "return 0.75", "output, label")
    outcome = dsrl(*flags, "--stop-after", "trained")
    assert outcome.code == 0, outcome.err
    assert "the task's code that gives the reward has changed" in " ".join(outcome.err.split())
    metrics = json.loads(Path("runs/small/metrics.jsonl").read_text().splitlines()[0])
    assert metrics["reward"] == pytest.approx(0.75)
    hook("reward", "return GOOD", "output, label", "GOOD = 0.5")
    refused(dsrl(*flags), "the task's code that gives the reward has changed")


def test_an_edited_task_of_the_same_version_gets_no_replies_of_the_old_one(dsrl, install, tmp_path):
    text = (
        "from dsrl import AnswerFormat, Example, Solved, hookimpl\n\nWORD = 'old'\n\n"
        "@hookimpl\ndef description():\n    return 'Say yes.'\n\n"
        "@hookimpl\ndef answer_format():\n    return AnswerFormat('tag', ('yes', 'no'))\n\n"
        "@hookimpl\ndef procedural_sample(seed):\n    return Example(f'{WORD} {seed}', '<answer>yes</answer>')\n\n"
        "@hookimpl\ndef procedural_solve(input):\n    return Solved('<answer>yes</answer>', 1)\n"
    )
    module = install("task", "mine", text)
    flags = ["run", "--task", "mine", "--samples", "4", "--stop-after", "initial", "--name"]
    assert dsrl(*flags, "one").code == 0
    (tmp_path / "site0" / f"{module}.py").write_text(text.replace("'old'", "'newer'"))
    del sys.modules[module]
    assert "the task's code for the teacher 'procedural' has changed" in " ".join(dsrl(*flags, "one").err.split())
    assert dsrl(*flags, "two").code == 0
    database = sqlite3.connect("runs/two/run.db")
    inputs = [input for (input,) in database.execute("SELECT input FROM samples")]
    database.close()
    assert [input.split()[0] for input in inputs] == ["newer"] * 4


# --- test data -------------------------------------------------------------------------------------------------------


def test_other_test_data_repeats_the_evaluation_alone(dsrl, small):
    from pyarrow import parquet

    flags = small[:-2]
    first = result(dsrl(*flags, "--dataset-path", lines("items.jsonl", ITEMS), "--test-size", "4", "--json"))
    assert first["n_test"] == 4
    model = Path("runs/small/model/model.safetensors")
    trained, replies = model.stat().st_mtime_ns, asked()

    outcome = dsrl(*flags, "--dataset-path", "items.jsonl", "--json")
    assert result(outcome)["n_test"] == 6
    assert "(4 before, 6 now); both models answer the 2 that are new" in " ".join(outcome.err.split())
    assert len(parquet.read_table("runs/small/data/test.parquet")) == 6
    assert tomllib.loads(Path("runs/small/run.toml").read_text())["task"]["dataset_path"] == "../../items.jsonl"

    lines("items.jsonl", [*ITEMS[:5], {"input": "other", "output": "entailment"}])
    outcome = dsrl(*flags, "--dataset-path", "items.jsonl", "--json")
    assert result(outcome)["n_test"] == 6
    assert "both models answer the 1 that are new" in " ".join(outcome.err.split())
    inputs = [row["extra_info"]["question"] for row in parquet.read_table("runs/small/data/test.parquet").to_pylist()]
    assert inputs[-1] == "other"

    assert result(dsrl(*small, "--json"))["n_test"] == 30
    assert (model.stat().st_mtime_ns, asked()) == (trained, replies)


def test_test_data_is_no_part_of_a_made_name(dsrl):
    flags = ["run", "--task", "mednli", "--samples", "2", "--stop-after", "keywords", "--json"]
    name = result(dsrl(*flags))["run"]
    assert result(dsrl(*flags, "--dataset-path", lines("items.jsonl", ITEMS), "--test-size", "2"))["run"] == name
    assert len(list(Path("runs").iterdir())) == 1


# --- settings and versions -------------------------------------------------------------------------------------------


def test_an_edited_run_toml_is_refused_for_the_same_run_and_taken_for_another(dsrl, small):
    assert dsrl(*small, "--stop-after", "initial").code == 0
    path = Path("runs/small/run.toml")
    edited = path.read_text().replace("votes = 4", "votes = 3").replace("seed = 0", "seed = 9")
    assert edited.count("votes = 3") == edited.count("seed = 9") == 1
    path.write_text(edited)
    outcome = dsrl("run", "--config", path, "--stop-after", "verified")
    assert outcome.code == 2
    assert "was started with other settings (--seed: 0 -> 9; --votes: 4 -> 3)" in outcome.err
    assert json.loads(dsrl("show", "small", "--json").out)["settings"]["teacher"]["votes"] == 4
    assert dsrl("run", "--config", path, "--name", "again", "--stop-after", "initial").code == 0
    assert json.loads(dsrl("show", "again", "--json").out)["settings"]["teacher"]["votes"] == 3
    # The run itself continues. The file is a copy again, and the edited file is not lost.
    outcome = dsrl(*small, "--stop-after", "initial")
    assert outcome.code == 0, outcome.err
    assert "run.toml was edited" in " ".join(outcome.err.split())
    assert "votes = 4" in path.read_text()
    assert Path("runs/small/run.toml.edited").read_text() == edited


def test_a_run_continues_from_another_folder(dsrl, small, monkeypatch):
    """Its paths are those that were typed in the first folder; another file of the same name counts as another file."""
    lines("demos.jsonl", ITEMS[:2])
    flags = [*small, "--demos", "demos.jsonl"]
    first = result(dsrl(*flags, "--stop-after", "initial", "--json"))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    folders = ["--runs-dir", "../runs", "--cache-dir", "../.dsrl", "--json"]
    again = result(dsrl("run", "--config", "../runs/small/run.toml", "--stop-after", "initial", *folders))
    assert (again["run"], again["teacher_calls"]) == ("small", first["teacher_calls"])
    assert json.loads(dsrl("show", "small", *folders).out)["settings"]["task"]["demos"] == "../demos.jsonl"
    assert dsrl(*small, "--demos", "../demos.jsonl", "--stop-after", "initial", *folders).code == 0
    lines("demos.jsonl", ITEMS[2:4])
    outcome = dsrl(*flags, "--stop-after", "initial", *folders)
    assert outcome.code == 2
    assert "--demos: '../demos.jsonl' -> 'demos.jsonl'" in outcome.err


@pytest.mark.parametrize("harm", ["", "[task", "\0" * 50])
def test_a_run_is_readable_without_its_run_toml(dsrl, small, harm):
    assert dsrl(*small, "--stop-after", "initial").code == 0
    path = Path("runs/small/run.toml")
    whole = path.read_text()
    path.write_text(harm) if harm else path.unlink()
    assert json.loads(dsrl("show", "small", "--json").out)["settings"]["teacher"]["votes"] == 4
    assert json.loads(dsrl("runs", "--json").out)[0]["run"] == "small"
    assert dsrl(*small, "--stop-after", "initial").code == 0
    assert path.read_text() == whole


def test_a_run_of_an_earlier_version_keeps_its_settings_from_the_file(dsrl, small):
    assert dsrl(*small, "--stop-after", "initial").code == 0
    database = sqlite3.connect("runs/small/run.db")
    database.execute("DELETE FROM run WHERE key IN ('settings', 'definition') OR key LIKE 'input-%'")
    database.commit()
    database.close()
    assert json.loads(dsrl("show", "small", "--json").out)["settings"]["teacher"]["votes"] == 4
    assert "other settings" in dsrl(*small, "--votes", "5").err
    assert dsrl(*small, "--stop-after", "initial").code == 0
    Path("runs/small/run.toml").unlink()
    assert json.loads(dsrl("show", "small", "--json").out)["settings"]["teacher"]["votes"] == 4


def test_other_versions_are_told_and_refuse_nothing(dsrl, small):
    assert dsrl(*small, "--stop-after", "keywords").code == 0
    database = sqlite3.connect("runs/small/run.db")
    database.execute(
        """UPDATE run SET value = replace(value, 'dsrl-tasks = "', 'dsrl-tasks = "9.') WHERE key = 'settings'"""
    )
    database.commit()
    database.close()
    Path("runs/small/run.toml").unlink()
    outcome = dsrl(*small, "--stop-after", "initial")
    assert outcome.code == 0, outcome.err
    assert "versions have changed since this run began: dsrl-tasks 9." in " ".join(outcome.err.split())


# --- the corpus ------------------------------------------------------------------------------------------------------


def test_the_corpus_is_fingerprinted_once_however_many_domains_there_are(dsrl, small, monkeypatch):
    from dsrl.corpus.reader import Corpus

    taken = []
    fingerprint = Corpus.fingerprint
    monkeypatch.setattr(Corpus, "fingerprint", lambda self: taken.append(1) or fingerprint(self))
    flags = [*small, "--domain", "fever", "--domain", "asthma", "--domain", "cough", "--stop-after", "passages"]
    assert dsrl(*flags).code == 0
    assert len(taken) == 2, "once for the run, and once to see that it was not changed while it was indexed"
    taken.clear()
    assert dsrl(*flags, "--name", "again").code == 0
    assert len(taken) == 1
