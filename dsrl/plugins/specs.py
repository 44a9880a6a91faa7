"""The contracts: what a plugin of each kind may and must answer. The one page that a plugin author reads.

A plugin is an installed distribution with an entry point::

    [project.entry-points."dsrl.tasks"]
    my_task = "my_package.my_task"

The group says the kind (:data:`GROUPS`), the name is what the user types (``--task my_task``), the value is a module, an
object, or a class. A class is called once with the settings that the user gave for the plugin (``--teacher-option
base_url=...``) as keyword arguments; its hooks are its methods. Every hook is marked::

    from dsrl import hookimpl

    @hookimpl
    def description() -> str:
        return "You are given ..."

A hook takes the arguments below by name, all of them or those it needs, and gives none of them a default. A hook that
has a default below may be left out. Returning ``None`` means "not answered": the default answers instead. A hook whose
name is taken can be written under another: ``@hookimpl(specname="eval") def evaluate(prediction, label)``.

``dsrl plugins --check`` says what is wrong with an installed plugin.
"""

# The bodies are empty on purpose: these are specifications.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pluggy

from dsrl.types import (
    Answer,
    BatchState,
    Completion,
    Example,
    Passage,
    Price,
    Request,
    Solved,
    TrainJob,
    TrainStep,
)

if TYPE_CHECKING:
    from dsrl.answers import AnswerFormat
    from dsrl.plugins.binding import Plugin

hookspec = pluggy.HookspecMarker("dsrl")
hookimpl = pluggy.HookimplMarker("dsrl")


class TaskSpec:
    """A task: its definition in words, its answers, its data, its reward. Group ``dsrl.tasks``."""

    @hookspec(firstresult=True)
    def description(self) -> str:
        """Say what the task is and what it takes to solve it (paper: I_des). Mandatory, never empty."""

    @hookspec(firstresult=True)
    def input_instruction(self) -> str:
        """Say how an input is built (paper: I_input). Default: empty, no demand on the form."""

    @hookspec(firstresult=True)
    def output_instruction(self) -> str:
        """Say how an answer is to be written (paper: I_output); it ends every prompt of the base model.

        Mandatory, unless ``answer_format`` is given: then the default is the field's usual words for that format.
        """

    @hookspec(firstresult=True)
    def answer_format(self) -> AnswerFormat:
        """Name the form of an answer, and the task needs no parser of its own.

        ``AnswerFormat("tag", choices=("yes", "no"))``: see :class:`dsrl.answers.AnswerFormat`. The defaults of
        ``process_label``, ``process_prediction`` and ``output_instruction`` follow from it. Default: none.
        """

    @hookspec(firstresult=True)
    def demos(self) -> Sequence[Example]:
        """Give demonstrations that belong to the task. ``--demos`` wins over them. Default: none."""

    @hookspec(firstresult=True)
    def domains(self) -> Sequence[str]:
        """Name the domains of the task; passages are searched for each, and N is divided among them.

        ``--domain`` wins over them. Default: none; the teacher is asked to name the domain (paper, Figure 5).
        """

    @hookspec(firstresult=True)
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example]:
        """Read real items. Inputs are as the base model sees them (without output instruction), outputs are gold.

        Args:
            path: what ``--dataset-path`` says: a file, a folder, a Hugging Face id; empty for the task's own data.
            split: ``test`` is what models are evaluated on.

        Default: a Hugging Face ``DatasetDict`` on disk or a JSONL file with ``input`` and ``output`` (either case).

        Raises:
            DataError: what is wrong with the data and where.
        """

    @hookspec(firstresult=True)
    def process_label(self, output: str) -> Answer:
        """Read the canonical answer out of a gold output. Default: as ``process_prediction``, else the text stripped."""

    @hookspec(firstresult=True)
    def process_prediction(self, output: str) -> Answer:
        """Read the canonical answer out of what a model wrote; ``UNREADABLE`` where there is none.

        The text is a model's: it may be anything, of any length. Never evaluate it; never raise.
        Default: as ``answer_format`` says. Mandatory where that is not given.
        """

    @hookspec(firstresult=True)
    def eval(self, prediction: str, label: str) -> bool:
        """Say whether a canonical answer is right: True or False, nothing else. Default: equality without case."""

    @hookspec(firstresult=True)
    def reward(self, output: str, label: str) -> float:
        """Give the reward of an output in training, a finite number. Default: 1 right, 0.1 readable but wrong, 0 unreadable.

        Args:
            output: what the model in training wrote.
            label: the canonical answer of the sample.
        """

    @hookspec(firstresult=True)
    def procedural_sample(self, seed: int, difficulty: int, passage: str) -> Example:
        """Write a sample by rule, for the teacher ``procedural``: the same arguments, the same sample.

        Args:
            seed: 0 or more.
            difficulty: 1 is the easiest; above the hardest that there is, give the hardest.
            passage: text that the sample should rest on; may be empty, may be anything.

        Optional; without it the task needs another teacher.
        """

    @hookspec(firstresult=True)
    def procedural_solve(self, input: str) -> Solved:
        """Solve an input in the language of ``procedural_sample`` by rule; None for any other input. Optional."""


class TeacherSpec:
    """A teacher: a model that follows instructions. Group ``dsrl.teachers``.

    Chosen by ``--teacher NAME`` or ``NAME:MODEL``; what follows the colon is :attr:`dsrl.types.Request.model`.
    Every call goes through the ledger (:mod:`dsrl.teaching.ledger`), which stores, prices, limits and repeats; a
    teacher does one call and tells the truth about it.
    """

    @hookspec(firstresult=True)
    async def complete(self, request: Request) -> Completion:
        """Answer a request by one call; give ``request.n`` replies, or fewer, at least one: the rest is asked for anew.

        Called on the event loop, many at once: never block it.

        Raises:
            TransientError: worth repeating (time-out, 429, 5xx, broken connection); it says what was billed, if anything.
            RowRefused: this request is refused; the row is dropped with the reason.
            TeacherError: nothing will work until the user mends it (key, model, address).

        Mandatory.
        """

    @hookspec(firstresult=True)
    def price(self, model: str) -> Price:
        """Give the model's price; None where it is not known. Mandatory: free is ``Price(0, 0)``."""

    @hookspec(firstresult=True)
    def max_n(self, model: str) -> int:
        """Give how many answers one call may bring: 1 where the provider has no ``n``, more where it has a limit.

        Asked before each call, since a teacher may learn it. Optional; without it (or with None) there is no limit.
        """

    @hookspec(firstresult=True)
    async def submit_batch(self, requests: Sequence[Request], token: str) -> str:
        """Give requests to the provider as one batch, for less money and a later answer.

        Args:
            requests: each known from now on by its number in this sequence; no ``n`` above ``max_n``, one model.
            token: a name that no other batch has, 16 characters of ``0-9a-f``, for ``find_batch``.

        Returns:
            The provider's id of the batch. It is all that is needed to ask for it later, from another process too.

        Raises:
            TransientError: worth repeating. ``find_batch`` is asked first, for the batch may be under way all the same.
            TeacherError: as ``complete`` does. No batch is under way then.

        Optional, together with ``poll_batch`` and ``cancel_batch``.
        """

    @hookspec(firstresult=True)
    async def find_batch(self, token: str, submitted: float, requests: int) -> str:
        """Give the provider's id of a batch that was perhaps submitted; None where the provider has none of that name.

        Asked after a kill or a broken connection in the moment of submitting. A wrong None is a batch paid for twice; where
        it cannot be known yet, come back when it can.

        Args:
            token: as ``submit_batch`` was given it.
            submitted: Unix time of this machine's clock before it was submitted.
            requests: how many are in it.

        Raises:
            TransientError: worth asking again.
            TeacherError: the provider cannot be asked.

        Optional. Without it such a batch is lost: its money stays on hold, and its requests are asked again.
        """

    @hookspec(firstresult=True)
    async def poll_batch(self, batch: str, model: str) -> BatchState:
        """Say how far a batch is, with all that came of it when it is over.

        Args:
            batch: the provider's id.
            model: of its requests.

        Raises:
            TransientError: worth asking again.
            TeacherError: there is no such batch, or the provider cannot be asked. The text says which.

        Optional, together with ``submit_batch``.
        """

    @hookspec(firstresult=True)
    async def cancel_batch(self, batch: str) -> None:
        """Ask the provider to stop a batch; what it answers by then is billed and comes with ``poll_batch``.

        Nothing happens where it is over already.

        Raises:
            TransientError, TeacherError: as ``poll_batch`` does.

        Optional, together with ``submit_batch``.
        """

    @hookspec(firstresult=True)
    def prepare(self, task: Plugin[TaskSpec], model: str) -> None:
        """See the task, and a model that will be asked for (may be empty), before the first request.

        Called for each model. What is wrong already should be said here, before anybody is paid: no key, no model.

        Raises:
            DsrlError: what it is.

        Optional.
        """

    @hookspec(firstresult=True)
    def identity(self) -> str:
        """Name what decides the replies beside name, options and model (say, the version of its rules).

        It is part of the key that replies are stored under. Optional.
        """

    @hookspec(firstresult=True)
    async def aclose(self) -> None:
        """Let go of connections after the last request. Optional."""


class RetrieverSpec:
    """A retriever: finds passages of libraries by keywords. Group ``dsrl.retrievers``.

    dsrl reads the libraries (:mod:`dsrl.corpus.reader`, one strict reader for all engines) and keeps the index folder; the
    retriever builds and searches.
    """

    @hookspec(firstresult=True)
    def index(self, passages: Iterable[Passage], directory: Path) -> int:
        """Build an index of ``passages`` in the empty folder ``directory``; give the number of passages in it.

        The iterable is read once and can be larger than memory. The number must be what the reader gave, else the
        index is thrown away. Mandatory.
        """

    @hookspec(firstresult=True)
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Passage]:
        """Give the ``k`` (or fewer) best passages for the keywords together, best first. ``k >= 1``. Mandatory.

        Keywords are a model's words: they may hold any characters and are terms, never query syntax.
        """


class SamplerSpec:
    """A sampler: runs the base model. Group ``dsrl.samplers``. A class; dsrl gives it the option ``model``.

    ``model`` is a folder in Hugging Face form or a hub id: names such as ``tiny`` are resolved before
    (:mod:`dsrl.plugins.base_models`).
    """

    @hookspec(firstresult=True)
    async def sample(
        self,
        prompts: Sequence[str],
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> Sequence[Sequence[str]]:
        """Give ``n`` completions of each prompt: ``len(prompts)`` lists of ``n`` texts, without the prompt.

        Args:
            prompts: full text as the model is to see it.
            n: completions a prompt.
            temperature: 0 is greedy.
            top_p: nucleus; 1 is off.
            max_tokens: length limit of a completion, in tokens.
            seed: the same call, prompts and their order included, gives the same texts where the engine can promise it.

        Called on the event loop, several at once: work that blocks belongs in a thread. Mandatory.
        """

    @hookspec(firstresult=True)
    def check(self) -> None:
        """Find what is wrong before a teacher is paid: the model, the device, the dtype, the server.

        Called once, before the first ``sample``, in a run that will come to the base model. It loads no weights, and it
        comes back within about a minute.

        Raises:
            DsrlError: what is wrong, where, and what would work.

        Optional.
        """

    @hookspec(firstresult=True)
    def close(self) -> None:
        """Let go of the model and its memory. Optional."""


class TrainerSpec:
    """A trainer: makes a better model by reinforcement (or another way). Group ``dsrl.trainers``."""

    @hookspec(firstresult=True)
    def train(self, job: TrainJob, task: Plugin[TaskSpec], on_step: Callable[[TrainStep], None]) -> None:
        """Train ``job.model`` on ``job.items`` with the task's ``reward`` and save it to ``job.output_dir``.

        Blocks until it is done. Called again with the same job after a kill: go on from ``job.work_dir``. A step may be
        told twice then, with the same values. A worker process binds the task again by ``task.ref``. What is in
        ``job.output_dir`` afterwards must be a model in Hugging Face form with its tokenizer; else the run does not go on.

        Args:
            job: what to train on and how.
            task: ``task.hook.reward(output=..., label=...)`` is the reward.
            on_step: to be called after each step.

        Mandatory.
        """

    @hookspec(firstresult=True)
    def check(self, job: TrainJob) -> None:
        """Find what is wrong before a teacher is paid: the model, the device, the dtype, the folder for the trained model.

        Called before the first ``train``, in a run that will come to the training. It loads no weights, leaves nothing on
        the disk, and comes back within about a minute.

        Args:
            job: of the last round, without its items, which are not made yet; its model is the base model.

        Raises:
            DsrlError: what is wrong, where, and what would work.

        Optional.
        """


#: kind -> (entry-point group, contract)
GROUPS: dict[str, tuple[str, type]] = {
    "task": ("dsrl.tasks", TaskSpec),
    "teacher": ("dsrl.teachers", TeacherSpec),
    "retriever": ("dsrl.retrievers", RetrieverSpec),
    "sampler": ("dsrl.samplers", SamplerSpec),
    "trainer": ("dsrl.trainers", TrainerSpec),
}
#: Hooks that no default answers, by kind.
MANDATORY: dict[str, tuple[str, ...]] = {
    "task": ("description",),
    "teacher": ("complete", "price"),
    "retriever": ("index", "search"),
    "sampler": ("sample",),
    "trainer": ("train",),
}
