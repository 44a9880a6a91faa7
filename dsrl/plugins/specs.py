"""The contracts: which hooks a plugin of each kind has, and what each hook must return. A plugin author reads this page.

A plugin is an installed distribution with an entry point::

    [project.entry-points."dsrl.tasks"]
    my_task = "my_package.my_task"

The group states the kind (:data:`KINDS`), the name is what the user types (``--task my_task``), and the value is a module,
an object or a class. A class is called once; the options that the user gave for the plugin (``--teacher-option
base_url=...``) are its keyword arguments, and its methods are the hooks. Every hook needs a mark::

    from dsrl import hookimpl

    @hookimpl
    def description() -> str:
        return "You are given ..."

A hook takes the arguments below by name: all of them, or only those that it needs. It gives none of them a default value.
A plugin that takes fewer arguments than a newer version of this page lists therefore keeps working. A plugin may leave out
a hook that has a default. If a hook returns ``None``, the default is used instead. If the name of a hook is already in use
in your module, write the hook under another name: ``@hookimpl(specname="eval") def evaluate(prediction, label)``.

This is version 1 of the hook API (:data:`API_VERSION`). ``dsrl plugins check`` finds what is wrong with an installed plugin.
"""

# The bodies are empty on purpose: these are specifications.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pluggy

from dsrl.answers import AnswerFormat
from dsrl.types import (
    Answer,
    BatchState,
    BoundPlugin,
    Completion,
    DatasetInfo,
    Example,
    Finding,
    Passage,
    Price,
    Prompt,
    Request,
    Solved,
    TrainJob,
    TrainStep,
)

#: Version of the contracts on this page.
API_VERSION = 1

hookimpl = pluggy.HookimplMarker("dsrl")
_hookspec = pluggy.HookspecMarker("dsrl")
F = TypeVar("F", bound=Callable[..., Any])


def hook(
    *,
    mandatory: bool = False,
    unanswered: str = "",
    optional_arguments: Mapping[str, Any] | None = None,
    goes: str = "",
) -> Callable[[F], F]:
    """Mark a specification of a hook and attach everything that dsrl must know of the hook.

    Args:
        mandatory: whether every plugin of the kind must implement the hook.
        unanswered: what a plugin must do instead of returning None; empty if None is a valid result.
        optional_arguments: argument -> the value that is used if the caller does not pass it.
        goes: for a hook that will be removed, the warning for a plugin that still implements it.
    """

    def mark(function: F) -> F:
        warning = FutureWarning(goes) if goes else None
        function.dsrl_hook = (mandatory, unanswered, dict(optional_arguments or {}), goes)  # type: ignore[attr-defined]
        return _hookspec(firstresult=True, warn_on_impl=warning)(function)

    return mark


class TaskSpec:
    """A task: its definition in words, its answers, its data and its reward. Group ``dsrl.tasks``."""

    @hook(mandatory=True, unanswered="return the task's description")
    def description(self) -> str:
        """Return a description of the task and of what it takes to solve it (paper: I_des). Mandatory, never empty."""

    @hook()
    def input_instruction(self) -> str:
        """Return a description of the form of an input (paper: I_input). Default: an empty text; any form is accepted."""

    @hook(unanswered="return the output instruction")
    def output_instruction(self) -> str:
        """Return the instruction on how to write an answer (paper: I_output). It ends every prompt of the base model.

        Mandatory, unless the task has an ``answer_format``. Default: the usual instruction for that format.
        """

    @hook()
    def answer_format(self) -> AnswerFormat:
        """Return the form of an answer, so that the task needs no parser of its own.

        Example: ``AnswerFormat("tag", choices=("yes", "no"))``, see :class:`dsrl.answers.AnswerFormat`. The defaults of
        ``process_label``, ``process_prediction`` and ``output_instruction`` use it. Default: none.
        """

    @hook(optional_arguments={"domain": ""})
    def demos(self, domain: str) -> Sequence[Example]:
        """Return the demonstrations of the task. ``--demos`` replaces them. Default: none.

        Args:
            domain: one of the task's domains; empty for the demonstrations of the whole task.
        """

    @hook()
    def domains(self) -> Sequence[str]:
        """Return the domains of the task. Passages are searched for each domain, and the N samples are divided among them.

        ``--domain`` replaces them. Default: none; the teacher then names the domain (paper, Figure 5).
        """

    @hook()
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example]:
        """Return real items. An input is what the base model sees (without the output instruction), an output is gold.

        With a ``domain`` in the items, the accuracy is also shown for each domain.

        Args:
            path: the value of ``--dataset-path``: a file, a folder or a Hugging Face id; empty for the task's own data.
            split: models are evaluated on ``test``.

        Default: read a Hugging Face ``DatasetDict`` on disk, or a JSONL file with ``input`` and ``output`` (in either case).

        Raises:
            DataError: the data is wrong; the error says what is wrong and where.
        """

    @hook()
    def dataset_info(self) -> DatasetInfo:
        """Return what the usual data set of the task is: where it is, its licence, its citation and its size.

        ``dsrl tasks show`` prints it, so that a user knows the terms of the data before a run loads it. Default: none.
        """

    @hook()
    def base_model(self) -> str:
        """Return the name of the installed base model that the task is meant for.

        It is used if neither a settings file nor a flag sets a base model. Default: none.
        """

    @hook(unanswered="return dsrl.UNREADABLE if there is no answer", optional_arguments={"input": ""})
    def process_label(self, output: str, input: str) -> Answer:
        """Return the canonical answer in a gold output, or ``UNREADABLE``.

        Args:
            output: the gold output.
            input: the input that the output answers.

        Default: what ``process_prediction`` returns; if that is ``UNREADABLE``, the stripped text.
        """

    @hook(unanswered="return dsrl.UNREADABLE if there is no answer", optional_arguments={"input": ""})
    def process_prediction(self, output: str, input: str) -> Answer:
        """Return the canonical answer in a text that a model wrote, or ``UNREADABLE`` if there is none.

        Args:
            output: the text of a model: it can be anything, of any length. Never evaluate it as code, and never raise.
            input: the input that the output answers; it holds, for example, the options of a multiple-choice question.

        Mandatory, unless the task has an ``answer_format`` or a ``rubric``. Default: the answer as that format finds it;
        without a format, the whole text without its thinking part.
        """

    @hook(unanswered="return True or False", optional_arguments={"input": ""})
    def eval(self, prediction: str, label: str, input: str) -> bool:
        """Return whether a canonical answer is right. Default: equality that ignores upper and lower case.

        Args:
            prediction: the canonical answer of a model.
            label: the right canonical answer.
            input: the input that both answer.
        """

    @hook(unanswered="return a number", optional_arguments={"input": ""})
    def reward(self, output: str, label: str, input: str) -> float:
        """Return the reward of an output in training: a finite number, or a :class:`dsrl.types.Reward` with named parts.

        Default: 1 if the output is right, 0.1 if it is readable but wrong, 0 if it is unreadable; as a ``Reward`` with the
        parts ``format`` (0.1 if it is readable) and ``result`` (0.9 if it is right).

        Args:
            output: the text that the model in training wrote.
            label: the canonical answer of the sample.
            input: the input of the sample.
        """

    @hook()
    def rubric(self) -> str:
        """Return the rubric by which a teacher judges answers, for a task without an answer that rules can check.

        A task with a rubric is *judged*: its reward, pass rate and accuracy come from the judge, who gives 0 to 10 points,
        and ``reward`` and ``eval`` are not used. The judge reads the description, the rubric, the input, the output of the
        sample as a reference, and the answer without its thinking part. ``--rubric`` replaces the rubric. Default: an empty
        text; the task is not judged.
        """

    @hook(optional_arguments={"domain": ""})
    def procedural_sample(self, seed: int, difficulty: int, passage: str, domain: str) -> Example:
        """Return a sample that is made by rules, for the teacher ``procedural``. The same arguments give the same sample.

        Args:
            seed: 0 or more.
            difficulty: 1 is the easiest; for a number above the hardest level, return a sample of the hardest level.
            passage: the text that the sample should be based on; it can be empty, and it can be anything.
            domain: the domain that the sample must belong to, one of those of the run; empty if it is left to the task. If
                the task has no rules for it, the sample is of another domain, which its ``domain`` names; the teacher
                ``procedural`` then warns.

        Optional; a task without it needs another teacher.
        """

    @hook()
    def procedural_solve(self, input: str) -> Solved:
        """Return the solution of an input that ``procedural_sample`` wrote; None for any other input. Optional."""


class TeacherSpec:
    """A teacher: a model that follows instructions. Group ``dsrl.teachers``.

    The user chooses it with ``--teacher NAME`` or ``NAME:MODEL``; the text after the colon is
    :attr:`dsrl.types.Request.model`. Every call goes through the ledger (:mod:`dsrl.teaching.ledger`), which stores, prices,
    limits and repeats calls. A teacher makes one call and reports truly what happened and what was billed.
    """

    @hook(mandatory=True, unanswered="return a Completion")
    async def complete(self, request: Request) -> Completion:
        """Answer a request with one call and return 1 to ``request.n`` replies. dsrl asks again for the rest.

        It is called on the event loop, many times at once: never block the loop.

        Raises:
            TransientError: the call can be repeated (time-out, 429, 5xx, broken connection). The error states what was
                billed, if anything.
            RowRefused: the provider refuses this request; the row is dropped with the reason.
            TeacherError: no call will work until the user corrects something (key, model, address).

        Mandatory.
        """

    @hook(mandatory=True)
    def price(self, model: str) -> Price:
        """Return the price of a model, or None if it is unknown. Mandatory. A free model has ``Price(0, 0)``."""

    @hook()
    def max_n(self, model: str) -> int:
        """Return the maximum number of replies of one call: 1 if the provider has no ``n``, more if it has a limit.

        It is called before each call, because a teacher can learn the limit. Optional; without it (or with None) there is
        no limit.
        """

    @hook(unanswered="return the provider's id of the batch")
    async def submit_batch(self, requests: Sequence[Request], token: str) -> str:
        """Submit requests to the provider as one batch, which costs less and is answered later.

        Args:
            requests: the position of a request in this sequence is its number from now on; all are for one model, and no
                ``n`` is above ``max_n``.
            token: a unique name of the batch, 16 characters of ``0-9a-f``, for ``find_batch``.

        Returns:
            The provider's id of the batch. It must be enough to poll the batch later, also from another process.

        Raises:
            TransientError: the call can be repeated. dsrl calls ``find_batch`` first, because the provider may have
                accepted the batch.
            TeacherError: as in ``complete``. The provider has not accepted the batch.

        Optional, together with ``poll_batch`` and ``cancel_batch``.
        """

    @hook()
    async def find_batch(self, token: str, submitted: float, requests: int) -> str:
        """Return the provider's id of a batch that was perhaps submitted, or None if the provider has no such batch.

        It is called after a kill or a broken connection during ``submit_batch``. Returning None for an existing batch makes
        dsrl pay twice. If you cannot tell yet, wait inside the hook.

        Args:
            token: the token that was given to ``submit_batch``.
            submitted: Unix time before the batch was submitted, by the clock of this machine.
            requests: the number of requests in the batch.

        Raises:
            TransientError: the call can be repeated.
            TeacherError: the provider cannot be asked.

        Optional. Without it such a batch is lost: its money stays on hold, and its requests are sent again.
        """

    @hook(unanswered="return a BatchState")
    async def poll_batch(self, batch: str, model: str) -> BatchState:
        """Return the state of a batch, with all its results if it is finished.

        Args:
            batch: the provider's id of the batch.
            model: the model of its requests.

        Raises:
            TransientError: the call can be repeated.
            TeacherError: there is no such batch, or the provider cannot be asked. The text says which.

        Optional, together with ``submit_batch``.
        """

    @hook()
    async def cancel_batch(self, batch: str) -> None:
        """Ask the provider to stop a batch. The requests that it has answered are billed and come with ``poll_batch``.

        Nothing happens if the batch is already finished.

        Raises:
            TransientError, TeacherError: as in ``poll_batch``.

        Optional, together with ``submit_batch``.
        """

    @hook()
    def prepare(self, task: BoundPlugin[TaskSpec], model: str) -> None:
        """Check, before the first request, that the teacher can work: that there is a key, that the model exists.

        Args:
            task: the task of the run.
            model: a model that requests will name; it may be empty. The hook is called once for each model.

        Raises:
            DsrlError: something is wrong; the text says what, and what to do.

        Optional.
        """

    @hook()
    def identity(self) -> str:
        """Return a text that names what else the replies depend on besides name, options and model: say, a version.

        It is part of the key under which replies are stored. Optional.
        """

    @hook()
    async def aclose(self) -> None:
        """Close connections after the last request. Optional."""


class RetrieverSpec:
    """A retriever: finds passages in libraries by keywords. Group ``dsrl.retrievers``.

    dsrl reads the libraries (:mod:`dsrl.corpus.reader`, one strict reader for all engines) and owns the index folder. The
    retriever builds the index and searches it.
    """

    @hook(mandatory=True, unanswered="return the number of passages", optional_arguments={"existing": 0})
    def index(self, passages: Iterable[Passage], directory: Path, existing: int) -> int:
        """Build an index of ``passages`` in the empty folder ``directory`` and return the number of passages in it.

        The iterable can be read once and can be larger than memory. If the number differs from the number of passages that
        were read, dsrl deletes the index. Mandatory.

        Args:
            passages: the passages.
            directory: the folder of the index.
            existing: 0 if the folder is empty. A retriever that takes this argument and has the hook ``count`` can add to an
                index: it keeps the first ``existing`` passages, removes any others, adds ``passages``, and returns the
                number of all. It should make what it has added permanent from time to time, so that a build that was
                killed can go on.
        """

    @hook(unanswered="return the number of passages")
    def count(self, directory: Path) -> int:
        """Return how many passages are permanently in an index. They are the first ones that ``index`` was given.

        It is called before an index is added to, and to go on with a build that was killed. Optional; without it, such a
        build begins again, and an index cannot be added to.

        Raises:
            StoreError: the index cannot be read.
        """

    @hook(unanswered="return the number of passages")
    def link(self, source: Path, directory: Path) -> int:
        """Use an index that the engine's own tools have made, and return the number of passages in it.

        It stays where it is and is not changed. ``dsrl index link`` calls this hook. Optional.

        Args:
            source: the folder or file of that index.
            directory: an empty folder, which is then passed to ``search`` and ``count``. Store in it where the index is.

        Raises:
            StoreError: it is no index that this retriever can search.
        """

    @hook()
    def drop(self, directory: Path) -> None:
        """Remove what the index has outside its folder, such as a table on a server. Optional.

        It is called before the folder is removed. The folder may be of a build that was interrupted.

        Raises:
            StoreError: it cannot be removed now.
        """

    @hook(mandatory=True, unanswered="return a list, which is empty if nothing was found")
    def search(self, directory: Path, keywords: Sequence[str], k: int) -> Sequence[Passage]:
        """Return at most ``k`` passages that match all the keywords together best, best first. ``k >= 1``. Mandatory.

        A model wrote the keywords: they can hold any characters. Treat them as terms, never as query syntax.
        """


class SamplerSpec:
    """A sampler: runs the base model. Group ``dsrl.samplers``. A class; dsrl gives it the option ``model``.

    ``model`` is a folder in Hugging Face form or a hub id; dsrl resolves names such as ``tiny`` before
    (:mod:`dsrl.plugins.base_models`).
    """

    @hook(mandatory=True, unanswered="return the texts", optional_arguments={"first": 0, "adapter": None})
    async def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
        first: int,
        adapter: Path | None,
    ) -> Sequence[Sequence[str]]:
        """Return ``n`` completions of each prompt: ``len(prompts)`` lists of ``n`` texts, without the prompt.

        Args:
            prompts: each is the text of the user's turn, and has a system text if the user gave one. A prompt with
                ``is_chat`` is rendered with the model's chat template.
            n: number of completions per prompt.
            temperature: 0 is greedy.
            top_p: nucleus; 1 is off.
            max_tokens: maximum length of a completion in tokens.
            seed: the same call (with the same prompts in the same order) returns the same texts if the engine can do that.
            first: number of the first attempt: the completions are the attempts ``first .. first + n - 1`` of each prompt.
                An attempt depends on the prompt, the seed and its number only, if the engine can do that.
            adapter: folder of a LoRA adapter to answer with; None for the model itself.

        It is called on the event loop, several times at once: do blocking work in a thread. Mandatory.
        """

    @hook()
    def has_chat_template(self, system: str) -> bool:
        """Return whether the model has a chat template, in which the sampler renders the prompts with ``is_chat``.

        It is called once, before a teacher is paid and before the first ``sample``. It loads no weights.

        Args:
            system: the user's system text; it may be empty.

        Raises:
            DsrlError: there is a template, but it cannot be used (for example with a system text).

        Optional; without it every prompt is plain text.
        """

    @hook(optional_arguments={"prompts": (), "max_tokens": 0})
    def check(self, prompts: Sequence[Prompt], max_tokens: int) -> None:
        """Check, before a teacher is paid, that the sampler can work: the model, the device, the dtype, the server.

        It is called once, before the first ``sample``, in a run that will use the base model. It loads no weights and
        returns within about a minute.

        Args:
            prompts: examples of the prompts of the run, which show how long a prompt is; there may be none.
            max_tokens: maximum length of a completion in tokens; 0 if it is not known.

        Raises:
            DsrlError: something is wrong; the text says what, where, and what would work.

        Optional.
        """

    @hook()
    def diagnose(self, model: str) -> Sequence[Finding]:
        """Return what `dsrl doctor` shows of the sampler on this machine: what works, and what is missing, with the mend.

        It is called in a process of its own, which is ended after three minutes. It loads no weights, and raises nothing
        where it can return a finding.

        Args:
            model: the base model of the command, a folder or a hub id; empty if none was given.

        Optional.
        """

    @hook()
    async def aclose(self) -> None:
        """Release the model and its memory after the last call. Optional."""

    @hook(
        goes="The hook `close` of samplers is now `async def aclose`. `close` will be removed in version 2 of the hook API."
    )
    def close(self) -> None:
        """Release the model: the name of ``aclose`` before version 1. Optional."""


class TrainerSpec:
    """A trainer: makes a better model by reinforcement learning or in another way. Group ``dsrl.trainers``."""

    @hook(mandatory=True)
    def train(self, job: TrainJob, task: BoundPlugin[TaskSpec], on_step: Callable[[TrainStep], None]) -> None:
        """Train ``job.model`` on ``job.items`` with the reward of its task and save the result in ``job.output_dir``.

        The hook returns when the training is finished. After a kill it is called again with the same job: continue from
        ``job.work_dir``. A step may then be reported twice, with the same values. A worker process can bind the task again
        with ``task.ref``. Afterwards ``job.output_dir`` must hold a model in Hugging Face form with its tokenizer; otherwise
        the run stops.

        Args:
            job: what to train on, and how.
            task: ``dsrl.compute_rewards(task, answers)`` returns the rewards of pairs of an item and an output, and
                ``dsrl.grade_all(task, answers)`` whether they are right. Both work for every run; give them all answers of
                a step at once, because a judge works on many at a time. In a run of one task that is not judged,
                ``task.hook.reward(output=..., label=..., input=...)`` is the reward. In a run over several tasks, reading
                ``task.hook`` is an error, so that no item gets the reward of another task: ``dsrl.get_task(task, item)``
                is the task of an item, and ``dsrl.list_tasks(task)`` are all of them.
            on_step: call it after each step.

        Mandatory.
        """

    @hook(unanswered="return True or False")
    def takes_several_tasks(self) -> bool:
        """Return whether ``train`` finds the task of each item with ``dsrl.get_task(task, item)``.

        Optional; without it, the trainer is refused in a run over several tasks, before a teacher is paid.
        """

    @hook(unanswered="return True or False")
    def takes_judged_tasks(self) -> bool:
        """Return whether ``train`` gets all rewards with ``dsrl.compute_rewards(task, answers)``, in its own process.

        The reward of a judged task (see the hook ``rubric``) comes from a teacher, whom a worker process cannot ask.
        Optional; without it, the trainer is refused in a run with a judged task, before a teacher is paid.
        """

    @hook(unanswered="return True or False")
    def can_choose(self) -> bool:
        """Return whether ``train`` can choose the items of each step out of a pool (``job.choose`` above 0).

        Optional; without it, ``--selection online`` selects the training set before the training, and the run says so.
        """

    @hook(optional_arguments={"task": None})
    def check(self, job: TrainJob, task: BoundPlugin[TaskSpec] | None) -> None:
        """Check, before a teacher is paid, that the trainer can work: model, device, dtype, folder of the trained model.

        It is called before the first ``train``, in a run that will train. It loads no weights, leaves nothing on the disk
        and returns within about a minute.

        Args:
            job: the job of the last iteration; its model is the base model. Its own items do not exist yet: its items are
                inputs of the task without labels, which show how long a prompt is. There may be none.
            task: what ``train`` will get, but without a judge. A trainer whose workers bind the task again finds out here
                whether they can.

        Raises:
            DsrlError: something is wrong; the text says what, where, and what would work.

        Optional.
        """

    @hook()
    def diagnose(self, model: str) -> Sequence[Finding]:
        """Return what `dsrl doctor` shows of the trainer on this machine: what works, and what is missing, with the mend.

        It is called in a process of its own, which is ended after three minutes. It loads no weights, and raises nothing
        where it can return a finding.

        Args:
            model: the base model of the command, a folder or a hub id; empty if none was given.

        Optional.
        """


@dataclass(frozen=True, slots=True)
class Hook:
    """All that dsrl knows of one hook. It comes from the hook's specification.

    Attributes:
        name: the name of the hook.
        arguments: the names of its arguments, in order.
        returns: the annotation of its result.
        default: in words, what is used if a plugin does not implement the hook; empty if there is no default.
        is_mandatory: whether every plugin of the kind must implement the hook.
        is_async: whether the hook is a coroutine function.
        unanswered: what a plugin must do instead of returning None; empty if None is a valid result.
        optional_arguments: argument -> the value that is used if the caller does not pass it.
        goes: the warning for a plugin that still implements the hook; empty for a hook that stays.
    """

    name: str
    arguments: tuple[str, ...]
    returns: Any
    default: str
    is_mandatory: bool
    is_async: bool
    unanswered: str
    optional_arguments: Mapping[str, Any]
    goes: str

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.arguments)})"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plugin.

    Attributes:
        name: the name that the user reads, e.g. ``task``.
        group: the group of the kind's entry points.
        spec: the class of the kind's specifications; None for base models, whose entry points name folders.
        hooks: name -> hook, in the order of this page.
    """

    name: str
    group: str
    spec: type | None
    hooks: Mapping[str, Hook]


def _make_hook(name: str, function: Any) -> Hook:
    mandatory, unanswered, optional_arguments, goes = function.dsrl_hook
    signature = inspect.signature(function, eval_str=True)
    default = re.search(r"Default: (.+?)(?:\n\n|\n?$)", inspect.cleandoc(function.__doc__ or ""), re.DOTALL)
    return Hook(
        name=name,
        arguments=tuple(parameter for parameter in signature.parameters if parameter != "self"),
        returns=signature.return_annotation,
        default=" ".join(default[1].split()) if default else "",
        is_mandatory=mandatory,
        is_async=inspect.iscoroutinefunction(function),
        unanswered=unanswered,
        optional_arguments=optional_arguments,
        goes=goes,
    )


def _make_kind(name: str, spec: type | None) -> Kind:
    functions = vars(spec).items() if spec else ()
    hooks = {key: _make_hook(key, function) for key, function in functions if hasattr(function, "dsrl_hook")}
    return Kind(name, f"dsrl.{name}s", spec, hooks)


#: name -> kind, for all kinds of plugins.
KINDS: Mapping[str, Kind] = {
    name: _make_kind(name, spec)
    for name, spec in (
        ("task", TaskSpec),
        ("teacher", TeacherSpec),
        ("retriever", RetrieverSpec),
        ("sampler", SamplerSpec),
        ("trainer", TrainerSpec),
        ("model", None),
    )
}
