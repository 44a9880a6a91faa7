"""A plugin that breaks its contract fails the contract class: one faulty plugin for each test."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dsrl.errors import DsrlError, TransientError
from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.specs import hookimpl
from dsrl.testing import (
    FaultServer,
    GrowingRetrieverContract,
    HttpTeacherContract,
    Installer,
    PluginContract,
    ProceduralTaskContract,
    RepeatableSamplerContract,
    ResumableTrainerContract,
    RetrieverContract,
    SamplerContract,
    SmallTask,
    TaskContract,
    TeacherContract,
    TrainerContract,
)
from dsrl.testing.contracts import retriever, sampler, teacher, trainer
from dsrl.types import (
    Completion,
    DatasetInfo,
    Example,
    Passage,
    Price,
    Reply,
    Request,
    Solved,
    TrainJob,
    TrainStep,
    Usage,
)

#: How a test of a contract fails: by an assertion, by the guard around the plugin, or by an error that did not come.
FAILURES = (AssertionError, DsrlError, TransientError, RuntimeError, pytest.fail.Exception)


def assert_failure(contract: PluginContract, test: str, **arguments: Any) -> None:
    """Assert that a test of a contract class fails."""
    with pytest.raises(FAILURES):
        getattr(contract, test)(**arguments)


# --- tasks ------------------------------------------------------------------------------------------------------------


class YesNo(TaskContract):
    examples = (("<answer>yes</answer>", "yes"), ("<answer>no</answer>", "no"))


class ConstantReward(SmallTask):
    @hookimpl
    def reward(self) -> float:
        return 1.0


class NothingIsRight(SmallTask):
    @hookimpl
    def eval(self) -> bool:
        return False


class UnreadableDemos(SmallTask):
    @hookimpl
    def demos(self) -> Sequence[Example]:
        return [Example("A?", "perhaps")]


class FragileParser(SmallTask):
    @hookimpl
    def process_prediction(self, output: str) -> str:
        return output.split("<answer>")[1].split("</answer>")[0].strip()


class LosesItems(SmallTask):
    @hookimpl
    def load_dataset(self) -> Iterable[Example]:
        return [Example("A?", "yes")]


class WithDataset(SmallTask):
    def __init__(self, **fields: Any) -> None:
        super().__init__()
        given = {"id": "a/b", "license": "MIT", "citation": "B 2020", "url": "https://c.org", "sizes": {"test": 4}}
        self.info = DatasetInfo(**{**given, **fields})

    @hookimpl
    def dataset_info(self) -> DatasetInfo:
        return self.info


def test_a_task_may_say_what_its_data_set_is(bound: Any) -> None:
    for task in (SmallTask(), WithDataset(), WithDataset(id="")):
        YesNo().test_the_data_set_can_be_cited(subject=bound("task", task))


@pytest.mark.parametrize(
    ("task", "test"),
    [
        (WithDataset(license=" "), "test_the_data_set_can_be_cited"),
        (WithDataset(citation="Body, no year"), "test_the_data_set_can_be_cited"),
        (WithDataset(id="", url=""), "test_the_data_set_can_be_cited"),
        (WithDataset(url="c.org"), "test_the_data_set_can_be_cited"),
        (WithDataset(sizes={}), "test_the_data_set_can_be_cited"),
        (ConstantReward(), "test_a_right_output_earns_more_than_a_wrong_one"),
        (NothingIsRight(), "test_a_label_is_its_own_right_answer"),
        (UnreadableDemos(), "test_demonstrations_can_be_read"),
        (FragileParser(), "test_the_cheap_hooks_accept_any_text"),
        (LosesItems(), "test_a_dataset_can_be_loaded"),
        (SmallTask(("wet", "dry")), "test_examples"),
        (SmallTask(words=" "), "test_it_describes_itself"),
    ],
)
def test_faulty_tasks(bound: Any, tmp_path: Path, task: SmallTask, test: str) -> None:
    path = {"tmp_path": tmp_path} if "dataset" in test else {}
    if test not in ("test_examples", "test_it_describes_itself"):
        getattr(YesNo(), test)(subject=bound("task", SmallTask()), **path)
    assert_failure(YesNo(), test, subject=bound("task", task), **path)


def test_a_contract_of_a_task_without_examples_fails(bound: Any) -> None:
    assert_failure(TaskContract(), "test_examples", subject=bound("task", SmallTask()))


class ProceduralTask(SmallTask):
    """Adds two numbers; the arguments make it faulty."""

    def __init__(
        self, shift: int = 0, is_random: bool = False, solves_all: bool = False, has_no_end: bool = False
    ) -> None:
        super().__init__(choices=())
        self.shift, self.is_random, self.solves_all, self.has_no_end = shift, is_random, solves_all, has_no_end

    @hookimpl
    def procedural_sample(self, seed: int, difficulty: int) -> Example:
        level = difficulty if self.has_no_end and difficulty < 9 else min(difficulty, 3)
        number = random.random() if self.is_random else 10**level + seed
        return Example(f"{number} + 1", f"<answer>{number + 1 + self.shift}</answer>")

    @hookimpl
    def procedural_solve(self, input: str) -> Solved | None:
        number = input.removesuffix(" + 1")
        if not self.solves_all and (number == input or len(number) > 20):
            return None
        answer = float(number) + 1 if "." in number else int("0" + number[:9]) + 1
        return Solved(f"<answer>{answer}</answer>", len(number) - 1)


@pytest.mark.parametrize(
    ("faults", "test"),
    [
        ({"shift": 1}, "test_it_solves_its_own_samples"),
        ({"is_random": True}, "test_the_same_arguments_make_the_same_sample"),
        ({"has_no_end": True}, "test_a_difficulty_above_the_hardest_is_the_hardest"),
        ({"solves_all": True}, "test_another_input_has_no_solution"),
    ],
)
def test_faulty_procedural_tasks(bound: Any, faults: dict[str, Any], test: str) -> None:
    passage = {"passage": "Apples."} if test == "test_it_solves_its_own_samples" else {}
    getattr(ProceduralTaskContract(), test)(subject=bound("task", ProceduralTask()), **passage)
    assert_failure(ProceduralTaskContract(), test, subject=bound("task", ProceduralTask(**faults)), **passage)


# --- teachers ---------------------------------------------------------------------------------------------------------


class Teacher:
    """A sound teacher; the arguments make it faulty."""

    def __init__(self, more: int = 0, blocks: float = 0.0, dollars: float = 0.0, usage: Usage | None = None) -> None:
        self.more, self.blocks, self.dollars, self.usage = more, blocks, dollars, usage
        self.is_open = True

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        time.sleep(self.blocks)
        return Completion((Reply("2"),) * (request.n + self.more), self.usage)

    @hookimpl
    def price(self) -> Price:
        return Price(self.dollars, self.dollars)


class ClosesOnce(Teacher):
    @hookimpl
    async def aclose(self) -> None:
        if not self.is_open:
            raise RuntimeError("it is closed already")
        self.is_open = False


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (Teacher(more=1), "test_a_call_brings_replies"),
        (Teacher(usage=Usage(1, 1, cached_tokens=2)), "test_the_bill_adds_up"),
        (Teacher(dollars=-1.0), "test_prices_are_dollars"),
        (Teacher(more=1), "test_a_call_brings_at_most_max_n"),
        (Teacher(blocks=0.3), "test_many_calls_at_once_leave_the_event_loop_free"),
        (ClosesOnce(), "test_it_can_be_closed_twice"),
    ],
)
def test_faulty_teachers(bound: Any, monkeypatch: pytest.MonkeyPatch, faulty: Teacher, test: str) -> None:
    monkeypatch.setattr(teacher, "LONGEST_BLOCK", 0.25)
    more = {"n": 2} if test == "test_a_call_brings_replies" else {}
    more |= {"calls": 1} if "twice" in test else {}
    getattr(TeacherContract(), test)(subject=bound("teacher", Teacher()), **more)
    assert_failure(TeacherContract(), test, subject=bound("teacher", faulty), **more)


class NaiveTeacher(Teacher):
    """Lets the errors of its library through, and asks in a blocking way."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        body = b'{"model": "gpt-4o", "messages": []}'
        call = urllib.request.Request(f"{self.url}/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(call, timeout=30) as answer:
            return Completion((Reply(answer.read().decode()),))


@pytest.mark.parametrize(
    ("test", "arguments"),
    [
        ("test_a_rate_limit_is_transient_and_states_the_pause", {}),
        ("test_a_fault_of_the_moment_is_transient", {"fault": teacher.Fault(500)}),
        ("test_a_lost_answer_may_have_been_billed", {}),
        ("test_a_fault_that_the_user_must_correct_stops_the_run", {"status": 401}),
        ("test_an_answer_that_cannot_be_read_is_an_error_of_the_contract", {"body": "<html>"}),
        ("test_a_server_that_is_gone_is_an_error_of_the_contract", {}),
        ("test_a_call_that_waits_holds_up_no_other", {}),
    ],
)
def test_a_naive_teacher_behind_http(
    bound: Any, monkeypatch: pytest.MonkeyPatch, test: str, arguments: dict[str, Any]
) -> None:
    monkeypatch.setattr(teacher, "TIME_LIMIT", 2.0)
    with FaultServer() as server:
        naive = bound("teacher", NaiveTeacher(server.url))
        assert HttpTeacherContract().ask(naive).replies
        assert_failure(HttpTeacherContract(), test, subject=naive, server=server, **arguments)


def test_a_teacher_that_hides_its_bill(bound: Any) -> None:
    HttpTeacherContract().test_the_bill_of_the_server_is_stated(subject=bound("teacher", Teacher(usage=Usage(1, 1))))
    assert_failure(HttpTeacherContract(), "test_the_bill_of_the_server_is_stated", subject=bound("teacher", Teacher()))


# --- retrievers -------------------------------------------------------------------------------------------------------


class Retriever:
    """Counts words in a list that it keeps in a file, or in itself; the arguments make it faulty."""

    def __init__(self, miscounts: int = 0, forgets: bool = False, ignores_k: bool = False, syntax: str = "") -> None:
        self.miscounts, self.forgets, self.ignores_k, self.syntax = miscounts, forgets, ignores_k, syntax
        self.passages: list[Passage] = []

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path) -> int:
        self.passages = list(passages)
        if not self.forgets:
            (directory / "index").write_text(repr(self.passages), encoding="utf-8")
        return len(self.passages) + self.miscounts

    @hookimpl
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> list[Passage]:
        words = " ".join(keywords).casefold().split()
        if self.syntax and self.syntax in words:
            raise ValueError("syntax error in the query")
        passages = self.passages if self.forgets else eval((directory / "index").read_text(encoding="utf-8"))
        scores = {p: sum(word in (p.title + " " + p.text).casefold() for word in words) for p in passages}
        best = sorted((p for p in passages if scores[p]), key=lambda p: -scores[p])
        return best if self.ignores_k else best[:k]


@pytest.mark.parametrize(
    ("faults", "test"),
    [
        ({"forgets": True}, "test_another_process_can_search_the_index"),
        ({"ignores_k": True}, "test_at_most_k_passages_come_back"),
        ({"syntax": "and"}, "test_any_keyword_is_only_a_term"),
        ({"miscounts": 1}, "test_an_empty_library"),
    ],
)
def test_faulty_retrievers(install: Installer, tmp_path: Path, faults: dict[str, Any], test: str) -> None:
    for number, options in enumerate(({}, faults)):
        directory = tmp_path / str(number)
        directory.mkdir()
        retrieving = install.bind("retriever", Retriever, **options)
        arguments: dict[str, Any] = {"subject": retrieving}
        if test == "test_an_empty_library":
            arguments["directory"] = directory
        else:
            retrieving.hook.index(passages=retriever.PASSAGES, directory=directory)
            arguments["index"] = directory
        if "another_process" in test:
            arguments["ref"] = retrieving.ref
        if "keyword" in test:
            arguments["keyword"] = "AND"
        if options:
            assert_failure(RetrieverContract(), test, **arguments)
        else:
            getattr(RetrieverContract(), test)(**arguments)


class GrowingRetriever(Retriever):
    """Adds to its index; the argument makes it faulty."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    @hookimpl
    def index(self, passages: Iterable[Passage], directory: Path, existing: int) -> int:
        path = directory / "index"
        kept = eval(path.read_text(encoding="utf-8")) if existing else []
        if self.fault != "keeps the rest":
            kept = kept[:existing]
        if self.fault == "begins again":
            kept = []
        path.write_text(repr([*kept, *passages]), encoding="utf-8")
        return existing if self.fault == "miscounts" else self.count(directory)

    @hookimpl
    def count(self, directory: Path) -> int:
        path = directory / "index"
        return len(eval(path.read_text(encoding="utf-8"))) if path.exists() else 0


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("keeps the rest", "test_passages_beyond_the_existing_ones_are_removed"),
        ("begins again", "test_passages_are_added"),
        ("miscounts", "test_passages_are_added"),
    ],
)
def test_faulty_growing_retrievers(install: Installer, tmp_path: Path, fault: str, test: str) -> None:
    for each in ("", fault):
        directory = tmp_path / (each or "good")
        directory.mkdir()
        retrieving = install.bind("retriever", GrowingRetriever, fault=each)
        arguments: dict[str, Any] = {"subject": retrieving}
        if test == "test_passages_are_added":
            arguments |= {"ref": retrieving.ref, "directory": directory}
        else:
            retrieving.hook.index(passages=retriever.PASSAGES, directory=directory)
            arguments["index"] = directory
        if each:
            assert_failure(GrowingRetrieverContract(), test, **arguments)
        else:
            getattr(GrowingRetrieverContract(), test)(**arguments)


# --- samplers ---------------------------------------------------------------------------------------------------------


class Sampler:
    """Writes numbers; the arguments make it faulty."""

    def __init__(self, model: str = "", more: int = 0, fault: str = "") -> None:
        self.more, self.fault = more, fault
        self.numbers = count()
        self.closed = 0

    @hookimpl
    async def sample(
        self, prompts: Sequence[str], n: int, temperature: float, max_tokens: int, seed: int, first: int
    ) -> list[list[str]]:
        if self.fault == "blocks":
            time.sleep(0.3)
        await asyncio.sleep(0)
        if self.fault == "forgets first":
            first = 0
        if self.fault == "is random":
            return [[str(next(self.numbers)) for _ in range(n)] for _ in prompts]
        numbers = range(first, first + n + self.more) if temperature else [0] * (n + self.more)
        words = 100 - max_tokens if self.fault == "ignores max_tokens" else max_tokens
        return [
            [f"{prompt} {number}".split()[0] + " a" * words + str(number) for number in numbers] for prompt in prompts
        ]

    @hookimpl
    async def aclose(self) -> None:
        self.closed += 1
        if self.fault == "closes once" and self.closed > 1:
            raise RuntimeError("it is closed already")


@pytest.mark.parametrize(
    ("faults", "test"),
    [
        ({"more": 1}, "test_each_prompt_has_n_completions"),
        ({"fault": "is random"}, "test_temperature_zero_is_greedy"),
        ({"fault": "is random"}, "test_the_same_call_has_the_same_texts"),
        ({"fault": "is random"}, "test_calls_at_the_same_time_do_not_disturb_each_other"),
        ({"fault": "ignores max_tokens"}, "test_max_tokens_is_kept"),
        ({"fault": "forgets first"}, "test_attempts_continue_where_the_last_call_ended"),
        ({"fault": "blocks"}, "test_it_leaves_the_event_loop_free"),
        ({"fault": "closes once"}, "test_it_can_be_closed_twice"),
    ],
)
def test_faulty_samplers(bound: Any, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any], test: str) -> None:
    monkeypatch.setattr(sampler, "LONGEST_BLOCK", 0.25)
    contract = RepeatableSamplerContract() if hasattr(RepeatableSamplerContract, test) else SamplerContract()
    arguments = {"prompts": 3, "n": 2} if "completions" in test else {"calls": 1} if "twice" in test else {}
    getattr(contract, test)(subject=bound("sampler", Sampler), **arguments)
    assert_failure(contract, test, subject=bound("sampler", Sampler, **faults), **arguments)


# --- trainers ---------------------------------------------------------------------------------------------------------


class Trainer:
    """Copies the base model and reports three steps; ``fault`` makes it faulty."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    @hookimpl
    def check(self, job: TrainJob) -> None:
        if self.fault == "leaves a folder":
            job.work_dir.mkdir(parents=True)

    @hookimpl
    def train(self, job: TrainJob, on_step: Callable[[TrainStep], None]) -> None:
        job.work_dir.mkdir(parents=True, exist_ok=True)
        done = len(list(job.work_dir.iterdir())) if self.fault != "begins again" else 0
        for step in range(done + 1, 4):
            if self.fault != "reports no numbers":
                rewards = {"1-0": step / (1 if self.fault != "repeats with other values" or not done else 2)}
            else:
                rewards = {"nobody": 0.0}
            on_step(TrainStep(step, 3, step / 3, {"reward": 0.5}, rewards))
            (job.work_dir / str(step)).touch()
        shutil.copytree(job.model, job.output_dir, dirs_exist_ok=True)
        if self.fault == "saves no tokenizer":
            for path in job.output_dir.glob("tokenizer*"):
                path.unlink()
        if self.fault == "changes the base model":
            (Path(job.model) / "config.json").write_text("{}")


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    folder = shutil.copytree(resolve_model("tiny").location, tmp_path / "base")
    out, work = tmp_path / "run" / "model", tmp_path / "run" / "work"
    return TrainJob(str(folder), trainer.ITEMS, out, work, 1e-3, 1, 4, 4, 1.0, 1.0, 0.0, 8, 64, 1)


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("saves no tokenizer", "test_a_job_makes_a_model"),
        ("changes the base model", "test_a_job_makes_a_model"),
        ("reports no numbers", "test_a_job_makes_a_model"),
        ("leaves a folder", "test_the_check_leaves_nothing_on_the_disk"),
        ("begins again", "test_an_interrupted_job_goes_on_with_the_same_steps"),
        ("repeats with other values", "test_an_interrupted_job_goes_on_with_the_same_steps"),
    ],
)
def test_faulty_trainers(bound: Any, tmp_path: Path, job: TrainJob, fault: str, test: str) -> None:
    contract = ResumableTrainerContract() if "interrupted" in test else TrainerContract()
    for number, of in enumerate(("", fault)):
        folder = tmp_path / str(number)
        own = replace(job, output_dir=folder / "model", work_dir=folder / "work")
        arguments: dict[str, Any] = {"subject": bound("trainer", Trainer(of)), "job": own}
        if "check" not in test:
            arguments["task"] = bound("task", trainer.VowelTask())
        if "job_makes" not in test:
            arguments["tmp_path"] = folder
        if of:
            assert_failure(contract, test, **arguments)
        else:
            getattr(contract, test)(**arguments)
