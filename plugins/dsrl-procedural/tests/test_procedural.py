"""The teacher on the real tasks, bound as a run binds it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dsrl import UNREADABLE, Example, Message, PluginRef, Price, Request, SettingsError, TeacherError
from dsrl.plugins.binding import Plugin, load
from dsrl.types import Purpose

TASKS = ("mednli", "gsm8k")
PASSAGE = "People with asthma or gout take aspirin every day. Apples and pears are sold in boxes."


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Plugin[Any]:
    plugin: Plugin[Any] = load(PluginRef("task", request.param), "task")
    return plugin


def prepare_teacher(task: Plugin[Any], **options: Any) -> Plugin[Any]:
    plugin: Plugin[Any] = load(PluginRef("teacher", "procedural", options), "teacher")
    plugin.hook.prepare(task=task, model="")
    return plugin


def get_replies(
    teacher: Plugin[Any], purpose: Purpose, variables: dict[str, str], prompt: str = "p", n: int = 1, first: int = 0
) -> list[str]:
    message = Message("user", prompt + "".join(variables.values()))
    request = Request(purpose, "", (message,), 0.7, 64, n=n, first=first, variables=variables)
    return [reply.text for reply in asyncio.run(teacher.hook.complete(request=request)).replies]


def read_sample(text: str) -> Example:
    found = json.loads(text)
    assert set(found) == {"input", "output"}
    return Example(found["input"], found["output"])


def read_labels(task: Plugin[Any], outputs: Sequence[str]) -> list[Any]:
    return [task.hook.process_prediction(output=output) for output in outputs]


def get_right_label(task: Plugin[Any], question: str) -> Any:
    return task.hook.process_prediction(output=task.hook.procedural_solve(input=question).output)


def make_inputs(task: Plugin[Any], level: int, n: int = 40) -> list[str]:
    """Return inputs that the task's own rules read at a level."""
    samples = [task.hook.procedural_sample(seed=seed, difficulty=level, passage="") for seed in range(n * 3)]
    solved = [(sample.input, task.hook.procedural_solve(input=sample.input)) for sample in samples]
    return [question for question, solution in solved if solution and solution.difficulty == level][:n]


# --- determinism -----------------------------------------------------------------------------------------------------


def test_the_same_number_is_the_same_reply(task: Plugin[Any]) -> None:
    """The number of replies of a call does not matter, nor which teacher object answers."""
    together = get_replies(prepare_teacher(task), "write", {"passage": PASSAGE}, n=20)
    one_by_one = [
        get_replies(prepare_teacher(task), "write", {"passage": PASSAGE}, first=number)[0] for number in range(20)
    ]
    assert together == one_by_one
    assert get_replies(prepare_teacher(task), "write", {"passage": PASSAGE}, n=5, first=7) == together[7:12]


def test_other_numbers_prompts_and_purposes_are_other_replies(task: Plugin[Any]) -> None:
    teacher = prepare_teacher(task)
    written = get_replies(teacher, "write", {"passage": PASSAGE}, n=50)
    assert len(set(written)) > 40
    assert get_replies(teacher, "write", {"passage": PASSAGE}, prompt="q", n=50) != written


def test_a_prompt_of_any_characters_is_answered(task: Plugin[Any]) -> None:
    for passage in ("\ud800", "\x00", "", "é\u2028", "word " * 5000):
        (text,) = get_replies(prepare_teacher(task), "write", {"passage": passage})
        assert read_sample(text).input


# --- writing and solving ---------------------------------------------------------------------------------------------


def test_written_samples_are_readable_and_of_several_levels(task: Plugin[Any]) -> None:
    samples = [
        read_sample(text) for text in get_replies(prepare_teacher(task, slip=0), "write", {"passage": PASSAGE}, n=200)
    ]
    solutions = [task.hook.procedural_solve(input=sample.input) for sample in samples]
    assert all(solutions)
    assert {solution.difficulty for solution in solutions} == {1, 2, 3, 4, 5}
    assert read_labels(task, [sample.output for sample in samples]) == [
        get_right_label(task, sample.input) for sample in samples
    ]


def test_without_slips_every_answer_is_right(task: Plugin[Any]) -> None:
    teacher = prepare_teacher(task, slip=0)
    for question in make_inputs(task, 3, 20):
        assert (
            read_labels(task, get_replies(teacher, "solve", {"input": question}, n=16))
            == [get_right_label(task, question)] * 16
        )


def test_with_slips_alone_most_answers_are_wrong_and_all_are_readable(task: Plugin[Any]) -> None:
    teacher = prepare_teacher(task, slip=1)
    wrong = total = 0
    for question in make_inputs(task, 3, 30):
        found = read_labels(task, get_replies(teacher, "solve", {"input": question}, n=16))
        assert UNREADABLE not in found
        wrong += sum(label != get_right_label(task, question) for label in found)
        total += len(found)
    assert wrong / total > 0.5
    samples = [read_sample(text) for text in get_replies(teacher, "write", {"passage": ""}, n=200)]
    assert sum(read_labels(task, [s.output])[0] != get_right_label(task, s.input) for s in samples) > 100


def test_some_slips_are_mended_by_the_votes(task: Plugin[Any]) -> None:
    teacher = prepare_teacher(task, slip=0.2)
    inputs = make_inputs(task, 2, 30)
    votes = [read_labels(task, get_replies(teacher, "solve", {"input": question}, n=16)) for question in inputs]
    assert any(len(set(found)) > 1 for found in votes)
    agreed = [max(set(found), key=found.count) for found in votes]
    assert agreed == [get_right_label(task, question) for question in inputs]


def test_what_is_not_in_its_language_is_not_answered(task: Plugin[Any]) -> None:
    (text,) = get_replies(prepare_teacher(task), "solve", {"input": "Who wrote Faust?"})
    assert task.hook.process_prediction(output=text) is UNREADABLE


# --- domains -------------------------------------------------------------------------------------------------------


def warn(caplog: pytest.LogCaptureFixture, task: str, *domains: str) -> list[str]:
    """Let the teacher write and rewrite samples of domains of a task; return its warnings."""
    teacher = prepare_teacher(load(PluginRef("task", task), "task"))
    with caplog.at_level(logging.WARNING, "dsrl_procedural"):
        for domain in domains:
            get_replies(teacher, "write", {"passage": "", "domain": domain}, n=20)
            get_replies(teacher, "rewrite", {"direction": "harder", "input": "?", "domain": domain}, n=20)
    return [record.getMessage() for record in caplog.records]


def test_a_sample_is_of_the_domain_that_the_request_names(caplog: pytest.LogCaptureFixture) -> None:
    task: Plugin[Any] = load(PluginRef("task", "math"), "task")
    purposes: tuple[Purpose, ...] = ("write", "rewrite")
    for purpose in purposes:
        variables = {"passage": "", "direction": "easier", "input": "?", "domain": "number theory"}
        texts = get_replies(prepare_teacher(task), purpose, variables, n=40)
        assert all(re.search("divisor|divided", read_sample(text).input) for text in texts)
    assert warn(caplog, "math", "number theory", "algebra") == []


def test_a_domain_without_rules_is_written_of_others_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    warnings = warn(caplog, "math", "algebra", "geometry", "precalculus")
    assert ["geometry" in text for text in warnings] == [True, False]
    assert warnings[1].startswith("the task 'math' has no rules for the domain 'precalculus'")


def test_a_task_whose_rules_know_no_domains_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    (text,) = warn(caplog, "mednli", "", "cardiology", "surgery")
    assert text.startswith("the rules of the task 'mednli' know no domains")


# --- rewriting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("direction", ["harder", "easier"])
def test_a_rewriting_changes_the_level_in_the_direction_that_was_asked(
    task: Plugin[Any], direction: str, level: int
) -> None:
    """At the ends of the scale it stays there."""
    teacher = prepare_teacher(task, slip=0)
    for question in make_inputs(task, level, 10):
        for text in get_replies(teacher, "rewrite", {"direction": direction, "input": question}, n=4):
            new = read_sample(text).input
            found = task.hook.procedural_solve(input=new).difficulty
            assert new != question
            if direction == "harder":
                assert found > level or found == level == 5
            else:
                assert found < level or found == level == 1


def test_what_it_cannot_read_is_rewritten_as_of_middle_level(task: Plugin[Any]) -> None:
    teacher = prepare_teacher(task, slip=0)
    for direction, levels in (("harder", {4, 5}), ("easier", {1, 2})):
        texts = get_replies(teacher, "rewrite", {"direction": direction, "input": "Who wrote Faust?"}, n=20)
        found = {task.hook.procedural_solve(input=read_sample(text).input).difficulty for text in texts}
        assert found == levels


# --- keywords and pattern --------------------------------------------------------------------------------------------


def test_keywords_are_words_of_the_description(task: Plugin[Any]) -> None:
    description = task.hook.description()
    (text,) = get_replies(prepare_teacher(task), "keywords", {"description": description})
    assert 1 <= len(text.splitlines()) <= 10
    assert all(re.search(rf"\b{word}", description.lower()) for word in text.splitlines())
    assert get_replies(prepare_teacher(task), "keywords", {"description": "1 + 1"}) == [""]


def test_a_pattern_is_read_from_demonstrations_with_any_characters(task: Plugin[Any]) -> None:
    demos = json.dumps({"input": "a\u2028b\x85c d", "output": "e"}, ensure_ascii=False)
    (text,) = get_replies(prepare_teacher(task), "pattern", {"examples": demos})
    assert "An input has about 4 words" in text


def test_a_pattern_speaks_of_lengths_and_of_no_demonstration(task: Plugin[Any]) -> None:
    demos = [{"input": f"{'word ' * n}Goethe", "output": "short"} for n in (1, 4, 9)]
    (text,) = get_replies(prepare_teacher(task), "pattern", {"examples": "\n".join(map(json.dumps, demos))})
    assert "An input has about 5 words (2 to 10)" in text
    assert "an output has about 1 words (1 to 1)" in text
    assert "Goethe" not in text


# --- the contract ----------------------------------------------------------------------------------------------------


def install_task_without_rules(folder: Path, monkeypatch: pytest.MonkeyPatch, *hooks: str) -> Plugin[Any]:
    """Install a task that has only these of the procedural hooks."""
    info = folder / "no_rules-1.0.dist-info"
    info.mkdir()
    name = f"no_rules_{len(hooks)}"
    source = "from dsrl import AnswerFormat, hookimpl\n@hookimpl\ndef description(): return 'x'\n"
    source += "@hookimpl\ndef answer_format(): return AnswerFormat('tag')\n"
    source += "".join(f"@hookimpl\ndef {hook}(): return None\n" for hook in hooks)
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: no-rules\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[dsrl.tasks]\n{name} = {name}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    plugin: Plugin[Any] = load(PluginRef("task", name), "task")
    return plugin


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ((), "has no hook procedural_sample and procedural_solve"),
        (("procedural_sample",), "has no hook procedural_solve"),
    ],
)
def test_a_task_without_rules_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: tuple[str, ...], words: str
) -> None:
    task = install_task_without_rules(tmp_path, monkeypatch, *hooks)
    with pytest.raises(TeacherError) as caught:
        prepare_teacher(task)
    assert f"task {task.name!r} {words}" in str(caught.value)
    assert "choose another teacher with --teacher" in str(caught.value)


@pytest.mark.parametrize("slip", [-0.1, 1.1, "much", float("nan"), None])
def test_a_slip_that_is_not_a_share_is_refused(slip: Any) -> None:
    with pytest.raises(SettingsError, match=r"slip=.* must be a share between 0 and 1"):
        load(PluginRef("teacher", "procedural", {"slip": slip}), "teacher")


def test_it_costs_nothing(task: Plugin[Any]) -> None:
    assert prepare_teacher(task).hook.price(model="") == Price(0.0, 0.0)


def test_a_request_before_the_task_is_an_error() -> None:
    teacher: Plugin[Any] = load(PluginRef("teacher", "procedural"), "teacher")
    with pytest.raises(TeacherError, match="does not have a task yet"):
        get_replies(teacher, "write", {"passage": ""})


def test_its_identity_hangs_on_the_rules_of_the_task(tmp_path: Path) -> None:
    """Else replies by other rules would be taken from the reply store."""
    mednli, gsm8k = (prepare_teacher(load(PluginRef("task", name), "task")).hook.identity() for name in TASKS)
    assert mednli != gsm8k
    path = tmp_path / "other_rules.py"
    path.write_text(
        "from dsrl import Example, hookimpl\n@hookimpl\ndef procedural_sample(seed): return Example('a', 'b')\n",
        encoding="utf-8",
    )
    overridden: Plugin[Any] = load(PluginRef("task", "mednli", {}, (str(path),)), "task")
    first = prepare_teacher(overridden).hook.identity()
    assert first != mednli
    path.write_text(path.read_text(encoding="utf-8").replace("'b'", "'c'"), encoding="utf-8")
    changed: Plugin[Any] = load(PluginRef("task", "mednli", {}, (str(path),)), "task")
    assert prepare_teacher(changed).hook.identity() != first


# --- judging ---------------------------------------------------------------------------------------------------------


def test_it_judges_by_the_rules_of_the_task(task: Plugin[Any]) -> None:
    teacher = prepare_teacher(task, slip=1.0)
    for question in make_inputs(task, 2, 5):
        right = task.hook.procedural_solve(input=question).output
        for output, points in ((right, 10), ("I do not know.", 0), ("", 0)):
            (reply,) = get_replies(teacher, "judge", {"input": question, "output": output, "reference": ""})
            judgement = json.loads(reply)
            assert (judgement["score"], judgement["addresses_judge"]) == (points, False), output
        wrong = next(
            sample.output
            for seed in range(99)
            if (sample := task.hook.procedural_sample(seed=seed, difficulty=1, passage=""))
            and read_labels(task, [sample.output]) != read_labels(task, [right])
        )
        (reply,) = get_replies(teacher, "judge", {"input": question, "output": wrong, "reference": ""})
        assert json.loads(reply)["score"] == 0


def test_an_input_that_it_cannot_solve_is_not_judged(task: Plugin[Any]) -> None:
    with pytest.raises(
        TeacherError,
        match=r"which do not solve this input, and there is no reference: 'Who wrote Faust\?'\. Name another teacher with",
    ):
        get_replies(prepare_teacher(task), "judge", {"input": "Who wrote Faust?", "output": "Goethe", "reference": ""})


def test_the_reference_gives_the_answer_to_an_input_that_the_rules_do_not_solve(task: Plugin[Any]) -> None:
    right, wrong = (
        task.hook.procedural_sample(seed=seed, difficulty=1, passage="").output for seed in find_two_answers(task)
    )
    for output, points in ((right, 10), (wrong, 0)):
        variables = {"input": "Is it so, says the real item?", "output": output, "reference": right}
        (reply,) = get_replies(prepare_teacher(task), "judge", variables)
        assert json.loads(reply)["score"] == points


def find_two_answers(task: Plugin[Any]) -> tuple[int, int]:
    """Return the seeds of two samples with different labels."""
    labels = [
        read_labels(task, [task.hook.procedural_sample(seed=seed, difficulty=1, passage="").output])
        for seed in range(50)
    ]
    return 0, next(seed for seed, label in enumerate(labels) if label != labels[0])
