"""Every user error is reported as a sentence: what was wrong, where, and what to do; never as a traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def refused(outcome, *words: str, code: int = 1) -> None:
    assert outcome.code == code, outcome.err
    _, said, sentence = outcome.err.rpartition("Error: ")
    assert said, outcome.err
    for word in words:
        assert word in sentence, (word, sentence)


def test_unknown_task_names_the_nearest_and_how_to_install(dsrl):
    refused(
        dsrl("run", "--task", "mednly"),
        "no task 'mednly'",
        "did you mean mednli",
        "pip",
    )


def test_unknown_plugin_of_each_kind(dsrl):
    refused(
        dsrl("run", "--task", "mednli", "--teacher", "procedurl"),
        "no teacher 'procedurl'",
        "procedural",
    )
    refused(
        dsrl("run", "--task", "mednli", "--retriever", "bm52"),
        "no retriever 'bm52'",
        "bm25",
    )
    refused(
        dsrl("run", "--task", "mednli", "--sampler", "transformer"),
        "no sampler",
        "transformers",
    )
    refused(
        dsrl("run", "--task", "mednli", "--trainer", "gpro"),
        "no trainer 'gpro'",
        "grpo",
    )


def test_no_task(dsrl):
    refused(dsrl("run"), "no task is named", "--task", code=2)


def test_unknown_command(dsrl):
    outcome = dsrl("rnu")
    assert outcome.code == 2
    assert "Did you mean 'run'?" in outcome.err


def test_unknown_option_of_a_plugin(dsrl):
    refused(
        dsrl("run", "--task", "mednli", "--teacher-option", "slipp=1"),
        "no option slipp",
        "slip",
        code=2,
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--samples", "0"], ["--samples", "at least 1"]),
        (["--teacher-temperature", "9"], ["--teacher-temperature", "at most 2"]),
        (["--name", "../x"], ["--name", "letters"]),
    ],
)
def test_setting_out_of_bounds(dsrl, flags, words):
    refused(dsrl("run", "--task", "mednli", *flags), *words, code=2)


def test_config_file_is_missing_or_misspelt(dsrl, tmp_path):
    refused(dsrl("run", "--config", "no.toml"), "no.toml does not exist", code=2)
    Path("bad.toml").write_text("[task]\nnamee = 'mednli'\n")
    refused(dsrl("run", "--config", "bad.toml"), "bad.toml", "'namee'", "did you mean 'task'", code=2)
    Path("bad.toml").write_text("[scor]\nattempts = 3\n")
    refused(dsrl("run", "--config", "bad.toml"), "no table [scor]; did you mean [score]?", code=2)
    Path("bad.toml").write_text("[task\n")
    refused(dsrl("run", "--config", "bad.toml"), "bad.toml is not TOML", "line 1", code=2)


def test_corpus_is_missing_empty_or_broken(dsrl):
    refused(dsrl("run", "--task", "mednli", "--corpus", "nowhere"), "nowhere")
    Path("empty").mkdir()
    refused(dsrl("run", "--task", "mednli", "--corpus", "empty"), "empty")
    lines = ['{"text": "A patient has a fever."}', "{broken", '{"no": "text"}'] * 10
    Path("broken.jsonl").write_text("\n".join(lines))
    refused(dsrl("run", "--task", "mednli", "--corpus", "broken.jsonl"), "broken.jsonl:2")


def test_some_broken_lines_are_counted_and_the_run_goes_on(dsrl, small):
    lines = [json.dumps({"text": f"The patient with number {i} has a fever and takes aspirin."}) for i in range(600)]
    lines[7] = "{broken"
    Path("library.jsonl").write_text("\n".join(lines))
    outcome = dsrl(*small, "--corpus", "library.jsonl", "--stop-after", "pattern")
    assert outcome.code == 0
    assert "1 line(s) of the passage library were left out: library.jsonl:8" in outcome.err.replace("\n", " ")


def test_demonstrations_of_the_wrong_shape(dsrl):
    Path("demos.json").write_text('[{"question": "a", "answer": "b"}]')
    refused(
        dsrl("run", "--task", "mednli", "--demos", "demos.json"),
        "demos.json, item 1",
        "input",
        "question",
    )
    Path("demos.jsonl").write_text('{"input": "a", "output": "b"}\n{"input": ["a"], "output": "b"}\n')
    refused(dsrl("run", "--task", "mednli", "--demos", "demos.jsonl"), "demos.jsonl:2")
    refused(
        dsrl("run", "--task", "mednli", "--demos", "none.json"),
        "none.json is not there",
    )


def test_base_model_path_holds_no_model(dsrl):
    Path("folder").mkdir()
    refused(
        dsrl("run", "--task", "mednli", "--base-model", "folder"),
        "config.json does not exist",
    )
    refused(
        dsrl("run", "--task", "mednli", "--base-model", "./nowhere"),
        "'./nowhere'",
        "--base-model",
    )
    Path("folder/config.json").write_text("{}")
    refused(dsrl("run", "--task", "mednli", "--base-model", "folder"), "no weights")


def test_data_set_without_columns_or_without_test_split(dsrl, small):
    import datasets

    one = datasets.Dataset.from_dict({"Question": ["a"], "Output": ["b"]})
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk("columns")
    refused(dsrl(*small, "--dataset-path", "columns"), "columns, test row 0", "Question")
    datasets.DatasetDict({"train": one}).save_to_disk("split")
    refused(dsrl(*small, "--dataset-path", "split", "--name", "other"), "no split 'test'", "train")
    refused(dsrl(*small, "--dataset-path", "gone.jsonl", "--name", "third"), "gone.jsonl does not exist")


def test_real_items_with_unreadable_gold_answers(dsrl, small):
    Path("items.jsonl").write_text('{"input": "a", "output": "perhaps"}\n')
    refused(dsrl(*small, "--dataset-path", "items.jsonl"), "item 1", "items.jsonl", "perhaps")


BAD_REWARD = """
from dsrl import AnswerFormat, Example, Solved, hookimpl

@hookimpl
def description(): return "Say whether a number is even: yes or no."

@hookimpl
def answer_format(): return AnswerFormat("tag", ("yes", "no"))

@hookimpl
def demos(): return [Example("Is 2 even?", "<answer>yes</answer>")]

@hookimpl
def procedural_sample(seed): return Example(f"Is {2 * seed} even?", "<answer>yes</answer>")

@hookimpl
def procedural_solve(input): return Solved("<answer>yes</answer>", 1)

@hookimpl
def reward(output, label):
    BODY
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('lost')", "reward failed with KeyError: 'lost' (bad.py:21)"),
        ("return float('nan')", "reward returned nan; return a finite number"),
        ("while True: pass", "reward has not returned for 1 s (bad.py:21)"),
    ],
    ids=["raises", "not a number", "never returns"],
)
def test_a_reward_that_always_fails_is_told_before_the_first_sample(dsrl, body, words):
    Path("bad.py").write_text(BAD_REWARD.replace("BODY", body))
    outcome = dsrl("run", "--task", "./bad.py", "--name", "bad", "--hook-timeout", "1")
    assert (outcome.code, f"Error: task './bad.py' of a file: its hook {words}" in outcome.err) == (1, True), (
        outcome.err
    )
    assert not Path("runs/bad/run.db").exists()


def test_labels_outside_the_choices_are_told_with_the_choices(dsrl):
    Path("items.csv").write_text("input,output\nI was charged twice.,billing\n")
    outcome = dsrl("run", "--task", "mednli", "--dataset-path", "items.csv")
    refused(outcome, "items of the test set items.csv", "'billing'", "the choices of the task are entailment")


def test_training_set_larger_than_what_there_is(dsrl, small):
    outcome = dsrl(*small, "--select", "500", "--stop-after", "selected", "--json")
    assert outcome.code == 0
    samples = json.loads(outcome.out)["samples"]
    assert samples["selected"] == samples["scored"] < 500
    assert "fewer than M = 500" in outcome.err


def test_no_sample_is_left(dsrl, small):
    Path("never.py").write_text(
        "from dsrl import UNREADABLE, hookimpl\n\n@hookimpl\ndef process_prediction(output):\n    return UNREADABLE\n"
        "\n@hookimpl\ndef process_label(output):\n    return output\n"
    )
    outcome = dsrl(*small, "--override", "never.py")
    refused(outcome, "there is no sample to train on: only 0 of the 24 initial samples got a label", "dsrl show small")


def test_other_settings_for_a_run_that_is_there(dsrl, small):
    assert dsrl(*small, "--stop-after", "keywords").code == 0
    refused(dsrl(*small, "--votes", "7", "--stop-after", "keywords"), "--votes: 4 -> 7", "--name", code=2)


def test_output_model_folder_is_not_empty(dsrl, small):
    Path("taken").mkdir()
    Path("taken/file").write_text("x")
    refused(dsrl(*small, "--output-model", "taken"), "taken", "not empty")
    assert Path("taken/file").read_text() == "x"


def test_no_permission_to_write(dsrl):
    refused(dsrl("run", "--task", "mednli", "--runs-dir", "/proc/none"), "/proc/none")


def test_no_room_on_the_disk(dsrl, small, tmp_path):
    """A tiny file system, on machines that allow us to mount one."""
    full = tmp_path / "full"
    full.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system of a few pages")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        refused(dsrl(*small, "--runs-dir", full), "no room on the disk")
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)


def test_show_a_run_or_a_sample_that_is_not_there(dsrl, small):
    refused(dsrl("show", "nothing"), "no run 'nothing'", "dsrl runs")
    dsrl(*small, "--stop-after", "initial")
    refused(dsrl("show", "small", "--sample", "9-9"), "no sample '9-9'", "1-00000")


def test_a_damaged_database(dsrl, small):
    dsrl(*small, "--stop-after", "keywords")
    for file in Path("runs/small").glob("run.db*"):
        file.write_bytes(b"this is not a database, is it? " * 200)
    refused(dsrl("show", "small"), "run.db", "damaged")


@pytest.fixture
def started(tmp_path, small):
    """A run with a slow teacher, in a separate process."""
    slow = [*small, "--teacher-option", "wait=0.5", "--concurrency", "1"]
    command = [sys.executable, "-c", "from dsrl.cli import main; main()", *slow]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".dsrl/calls.db")) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


def test_two_processes_on_one_run(dsrl, small, started):
    refused(dsrl(*small), "run 'small' is being worked on by process", str(started.pid), "--name")


def test_interrupt_stops_cleanly_and_says_how_to_go_on(started):
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "Traceback" not in err
    assert "waiting up to a minute for calls in flight" in err
    assert "kept in runs/small. Run the same command again to continue." in err
