"""The base model, or a trained one, at work: one function binds its sampler, one closes it, one asks it for texts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from dsrl.errors import PluginError, SettingsError
from dsrl.pipeline.judging import Judges, judge_all, make_submission
from dsrl.pipeline.model_folder import has_chat_template
from dsrl.pipeline.run_tasks import RunTasks
from dsrl.plugins.binding import Plugin, load, takes_option
from dsrl.plugins.scoring import grade
from dsrl.plugins.specs import SamplerSpec
from dsrl.settings import Settings
from dsrl.types import RIGHT_SCORE, Answer, PluginRef


def bind_sampler(settings: Settings, model: str) -> Plugin[SamplerSpec]:
    """Bind the sampler of a run to a model. ``--device`` and ``--dtype`` are passed only to a sampler that takes them.

    Args:
        settings: the settings of the run.
        model: a folder or a hub id.

    Raises:
        DsrlError: there is no such sampler, or an option is wrong.
    """
    options = {"model": model, **settings.sampler_option}
    for name in ("device", "dtype"):
        value = getattr(settings, name)
        if value != "auto" and takes_option("sampler", settings.sampler, name):
            options[name] = value
    return load(PluginRef("sampler", settings.sampler, options), "sampler")


def decide_chat(settings: Settings, sampler: Plugin[SamplerSpec], model: str) -> bool:
    """Decide whether a model is asked through its chat template (``--chat-template``).

    Args:
        settings: the settings of the run.
        sampler: runs the model.
        model: a folder or a hub id.

    Raises:
        SettingsError: the user demands a template, and the model has none or the sampler cannot use it.
    """
    setting, folder = settings.chat_template, Path(model)
    # A server may answer chat prompts for a model without a template; the trainer could not render them.
    may_have = not folder.is_dir() or has_chat_template(folder)
    is_chat = False
    if setting != "off" and may_have and sampler.implements("has_chat_template"):
        is_chat = bool(sampler.hook.has_chat_template(system=settings.system_prompt))
    if setting == "on" and not is_chat:
        raise SettingsError(
            f"--chat-template on: the base model {model} has no chat template, or the sampler {sampler.name!r} cannot use "
            "it; give --chat-template off, another --base-model or another --sampler"
        )
    return is_chat


def can_number_attempts(sampler: Plugin[SamplerSpec]) -> bool:
    """Return whether an attempt of a sampler depends on its prompt, the seed and its number only, so that it can go on."""
    return sampler.accepts("sample", "first")


class Question(Protocol):
    """What a model can be asked: a sample, a test item.

    Attributes:
        task: name of its task; empty in a run of one task.
        input: the input, without the output instruction.
    """

    @property
    def task(self) -> str: ...

    @property
    def input(self) -> str: ...


def _ignore(text: str) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class AnsweringModel:
    """A model that answers inputs of the tasks of a run.

    Attributes:
        sampler: runs the model.
        tasks: make the prompts, read and grade the answers.
        max_tokens: maximum length of an answer in tokens.
        judges: judge the answers of the judged tasks.
        set_status: shows what the run is waiting for.
    """

    sampler: Plugin[SamplerSpec]
    tasks: RunTasks
    max_tokens: int
    judges: Judges = field(default_factory=dict)
    set_status: Callable[[str], None] = _ignore
    _has_answered: Event = field(default_factory=Event, init=False)

    @property
    def numbers_attempts(self) -> bool:
        """Whether the sampler can go on with its attempts (:func:`can_number_attempts`)."""
        return can_number_attempts(self.sampler)

    async def answer(
        self, questions: Sequence[Question], n: int = 1, temperature: float = 0.0, seed: int = 0, first: int = 0
    ) -> list[list[str]]:
        """Return ``n`` answers to each question, the attempts ``first .. first + n - 1``; temperature 0 is greedy.

        Raises:
            PluginError: the sampler returned another number of texts.
        """
        # Most samplers load their model with the first call.
        if not self._has_answered.is_set():
            self.set_status("loading the model, or waiting for its first answers")
        texts = await self.sampler.hook.sample(
            prompts=[self.tasks[question.task].definition.make_prompt(question.input) for question in questions],
            n=n,
            temperature=temperature,
            top_p=1.0,
            max_tokens=self.max_tokens,
            seed=seed,
            first=first,
            adapter=None,
        )
        if not self._has_answered.is_set():
            self._has_answered.set()
            self.set_status("")
        answers = [list(completions) for completions in texts]
        if len(answers) != len(questions) or any(len(completions) != n for completions in answers):
            raise PluginError(
                f"sampler {self.sampler.name!r} of {self.sampler.distribution} did not return {n} texts for each of "
                f"{len(questions)} prompts"
            )
        return answers

    async def grade(self, outputs: Sequence[tuple[Question, str, str]]) -> list[tuple[Answer, bool]]:
        """Read the answers in outputs; return them, and whether each is right. An unreadable answer is wrong.

        What a judge has to judge goes out together.

        Args:
            outputs: what was asked, the text of the model, and the label.

        Raises:
            TeacherError: a judge cannot go on; :class:`BudgetReached` if the budget does not pay for it.
        """
        judged = [
            (question.task, make_submission(question.input, output, label))
            for question, output, label in outputs
            if self.tasks[question.task].rubric
        ]
        scores = iter(await judge_all(self.judges, judged))
        answers = iter(submission.answer for _, submission in judged)
        return [
            (next(answers), next(scores) >= RIGHT_SCORE)
            if self.tasks[question.task].rubric
            else grade(self.tasks[question.task].plugin, output, label, question.input)
            for question, output, label in outputs
        ]


@asynccontextmanager
async def close_sampler(sampler: Plugin[SamplerSpec]) -> AsyncIterator[Plugin[SamplerSpec]]:
    """Use a sampler for the length of a block, then let it release its model."""
    try:
        yield sampler
    finally:
        await sampler.hook.aclose()
