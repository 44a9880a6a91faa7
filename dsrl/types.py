"""The values that the rooms and the plugins hand to each other: small, frozen, without behaviour.

Every record can be built again from a row of the run's database (:mod:`dsrl.storage.run_store`), so none holds a handle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

S_co = TypeVar("S_co", covariant=True)


class Unreadable(Enum):
    """The value for an answer that cannot be read. It is not None, because a hook that returns None has not answered."""

    UNREADABLE = "unreadable"

    def __bool__(self) -> bool:
        return False


UNREADABLE = Unreadable.UNREADABLE

#: A canonical answer, or ``UNREADABLE``.
Answer = str | Unreadable


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What the usual data set of a task is.

    Attributes:
        id: its Hugging Face id, e.g. ``openai/gsm8k``; empty if it is not on the hub.
        license: its licence in words; ``not stated`` if the authors name none.
        citation: authors, year and title in one line.
        url: a page that describes it.
        sizes: split -> number of items.
        config: the configuration that the task reads; empty for the only one.
        revision: the branch, tag or commit that the task reads; empty for the newest.
        is_read: whether the authors of the task have run its loader on the real data; ``dsrl tasks show`` says
            ``not run`` if not.
    """

    id: str
    license: str
    citation: str
    url: str
    sizes: Mapping[str, int]
    config: str = ""
    revision: str = ""
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """An input with its output: a demonstration, an item of a data set, or a sample that a teacher wrote.

    Attributes:
        input: the input, without the output instruction.
        output: the output.
        domain: the domain of the task that an item of a data set belongs to; empty if that is not known.
    """

    input: str
    output: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a passage library.

    Attributes:
        id: unique in its library; ``file:line`` if the library gives no id.
        text: the text of the passage; never empty.
        title: the title; it may be empty.
    """

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(str):
    """A prompt for the base model: the text of the user's turn, and perhaps a system text before it.

    It is a string, so that an engine that knows no chat format can use it as it is. Whoever owns the tokenizer renders the
    prompt once. In a chat prompt, that is ``messages`` in the model's chat template, with the generation prompt at the end;
    no further special tokens are added. Otherwise it is :attr:`plain_text`.

    Attributes:
        system: the system text; empty if there is none.
        is_chat: whether the model's chat template is used.
    """

    __slots__ = ("is_chat", "system")
    system: str
    is_chat: bool

    def __new__(cls, text: str, system: str = "", is_chat: bool = False) -> Prompt:
        prompt = super().__new__(cls, text)
        prompt.system = system
        prompt.is_chat = is_chat
        return prompt

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as chat messages: the system text if there is one, then the user's turn."""
        user = Message("user", str(self))
        return (Message("system", self.system), user) if self.system else (user,)

    @property
    def plain_text(self) -> str:
        """The text of a prompt without a chat template."""
        return f"{self.system}\n\n{self}" if self.system else str(self)

    def __getnewargs__(self) -> tuple[str, str, bool]:  # type: ignore[override]
        return str(self), self.system, self.is_chat

    def __repr__(self) -> str:
        system = f", system={self.system!r}" if self.system else ""
        return f"Prompt({str(self)!r}{system}{', is_chat=True' if self.is_chat else ''})"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``dsrl doctor`` shows of a plugin.

    Attributes:
        level: ``ok``: it works. ``note``: good to know. ``warning``: something is missing or smaller than usual.
            ``problem``: the plugin cannot work here.
        text: what was found, in one sentence.
        mend: the command or the flag that helps; empty if there is none.
    """

    level: Literal["ok", "note", "warning", "problem"]
    text: str
    mend: str = ""


#: The least score of a judge, 0 to 1, of an answer that counts as right.
RIGHT_SCORE = 0.5


class Reward(float):
    """A reward with the parts that it is made of.

    It is a number, so that a trainer that knows nothing of parts can use it as it is.

    Attributes:
        parts: name of a part -> its number; for the logs.
    """

    __slots__ = ("parts",)
    parts: Mapping[str, float]

    def __new__(cls, value: float, parts: Mapping[str, float] | None = None) -> Reward:
        reward = super().__new__(cls, value)
        reward.parts = dict(parts or {})
        return reward

    def __getnewargs__(self) -> tuple[float, Mapping[str, float]]:  # type: ignore[override]
        return float(self), self.parts


@dataclass(frozen=True, slots=True)
class PluginRef:
    """What a worker process needs to bind a plugin again: names and settings, no objects.

    Attributes:
        kind: name of the plugin's kind, e.g. ``task``.
        name: name of the entry point, as the user typed it: perhaps with an argument after a colon.
        options: keyword arguments for the plugin's class.
        overrides: files whose hooks win over the plugin's.
    """

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


class BoundPlugin(Protocol[S_co]):
    """A bound plugin as another plugin's hook receives it. ``plugin.hook.reward(output=..., ...)`` calls a hook."""

    @property
    def ref(self) -> PluginRef:
        """What a worker process needs to bind the plugin again."""

    @property
    def name(self) -> str:
        """The name that the user typed."""

    @property
    def distribution(self) -> str:
        """The name of the plugin's distribution."""

    @property
    def version(self) -> str:
        """The version of that distribution."""

    @property
    def hook(self) -> S_co:
        """The hooks of the plugin's kind; they are called with keyword arguments only."""

    def implements(self, hook: str) -> bool:
        """Return whether the plugin, an override or a default implements the hook."""

    def accepts(self, hook: str, argument: str) -> bool:
        """Return whether an implementation of the hook takes the argument."""

    def digest_code(self, *hooks: str) -> str:
        """Return a digest of the code that implements the hooks, without dsrl's defaults: other code, another digest."""


#: What a request to a teacher is for. Spending is counted by purpose, and the user can choose a teacher by purpose.
Purpose = Literal["keywords", "pattern", "write", "solve", "rewrite", "judge"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a teacher for ``n`` independent replies to ``messages``.

    Attributes:
        purpose: what the request is for.
        model: the provider's name of the model; empty for a teacher that has only one.
        messages: the prompt. The part that all requests of a purpose share comes first, so that providers can cache it.
        temperature: 0 is greedy.
        max_tokens: maximum length of one reply in tokens.
        n: the number of replies.
        first: the number of the first reply. The replies to one prompt are numbered, and each is stored under its prompt,
            settings and number, so that the replies ``first .. first + n - 1`` are paid for once.
        top_p: nucleus sampling; 1 is off.
        schema: JSON schema of a reply, for providers with structured output; None for free text.
        variables: name -> text that was inserted in the prompt. A rule-based teacher reads these instead of the prompt.
            They are also in the messages, so they are not part of the reply's key.
    """

    purpose: Purpose
    model: str
    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    n: int = 1
    first: int = 0
    top_p: float = 1.0
    schema: Mapping[str, Any] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of a teacher.

    Attributes:
        text: the text of the reply.
        finish_reason: ``stop``, ``length`` (cut off) or ``content_filter``.
    """

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Usage:
    """The numbers of tokens that the provider billed for a call.

    Attributes:
        prompt_tokens: all tokens of the prompt; they include the two numbers below.
        completion_tokens: all tokens that the model wrote, including hidden reasoning.
        cached_tokens: the part of ``prompt_tokens`` that was read from a prompt cache.
        cache_write_tokens: the part of ``prompt_tokens`` that was written to a prompt cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """The rest of a provider's rate limits, as the provider reports it; None if it does not report a number.

    Attributes:
        remaining_requests: number of requests that are still allowed.
        remaining_tokens: number of tokens that are still allowed.
        reset_requests: seconds until the full number of requests is allowed again.
        reset_tokens: seconds until the full number of tokens is allowed again.
    """

    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests: float | None = None
    reset_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of one call of a teacher for a :class:`Request`: at least one reply, at most ``request.n``.

    Attributes:
        replies: the replies in any order; they are independent of each other.
        usage: what the call was billed for. None if the provider did not report it, or reported something unreadable: the
            bill is then unknown, and its worst case is counted. Zeros from a teacher that is not free also count as unknown.
        rate: the rest of the provider's rate limits; None if the provider did not report it.
    """

    replies: tuple[Reply, ...]
    usage: Usage | None = None
    rate: Rate | None = None


BatchStatus = Literal["in_progress", "ended", "failed", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class BatchState:
    """The state of a batch at a provider.

    Attributes:
        status: every status except ``in_progress`` is final. ``failed``: the provider did not accept the batch.
        total: number of requests in the batch; 0 as long as the provider has not counted them.
        done: number of answered requests so far, if the provider reports it.
        failed: number of failed requests so far, if the provider reports it.
        results: if the status is final: number of a request in the batch -> what a single call would have returned or
            raised (see ``TeacherSpec.complete``), with its usage. Requests without an answer (cancelled, expired) are left
            out. dsrl sends these and those with a ``TransientError`` again.
        message: the provider's message if something is wrong with the whole batch.
    """

    status: BatchStatus
    total: int = 0
    done: int = 0
    failed: int = 0
    results: Mapping[int, Completion | Exception] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """Prices in US dollars per million tokens.

    Attributes:
        prompt: price of prompt tokens.
        completion: price of completion tokens.
        cached: price of prompt tokens that are read from a cache; None: the price of other prompt tokens.
        cache_write: price of prompt tokens that are written to a cache; None: the price of other prompt tokens.
        batch: factor for all of these prices in a batch.
    """

    prompt: float
    completion: float
    cached: float | None = None
    cache_write: float | None = None
    batch: float = 1.0

    def cost(self, usage: Usage, batch: bool = False) -> float:
        """Return the cost of ``usage`` in dollars, in a batch or not."""
        cached = self.prompt if self.cached is None else self.cached
        write = self.prompt if self.cache_write is None else self.cache_write
        fresh = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
        dollars = (
            fresh * self.prompt
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * write
            + usage.completion_tokens * self.completion
        ) / 1e6
        return dollars * self.batch if batch else dollars

    def worst(self, prompt_tokens: int, completion_tokens: int, batch: bool = False) -> float:
        """Return the highest possible cost of these numbers of tokens in dollars, whatever the provider caches."""
        dearest = max(self.prompt, self.cache_write or 0.0, self.cached or 0.0)
        return Price(dearest, self.completion, batch=self.batch).cost(Usage(prompt_tokens, completion_tokens), batch)


Kind = Literal["initial", "harder", "easier"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A synthetic sample.

    Attributes:
        id: ``<round>-<slot>`` with ``h`` or ``e`` behind it for the harder or easier sample rewritten from it.
        round: 1 for the first iteration.
        slot: 0 .. N-1, the initial sample that it is or descends from.
        kind: which step wrote it.
        input: the question, without the output instruction.
        output: the output that the teacher wrote with the input.
        label: the canonical answer that the votes agreed on; None before verification and for a dropped sample.
        dropped: the reason why the sample is not used (in snake_case); None if it is used.
        parent: id of the sample that this one was rewritten from.
        passage: id of the passage that the sample is based on.
        task: name of its task; empty in a run of one task.
        domain: the domain that it was written for; empty if an early version of dsrl wrote it.
    """

    id: str
    round: int
    slot: int
    kind: Kind
    input: str
    output: str
    label: str | None = None
    dropped: str | None = None
    parent: str | None = None
    passage: str | None = None
    task: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """The base model's pass rate on a sample, and the sample's score (paper, Equation 7).

    Attributes:
        sample: id of the sample.
        attempts: L.
        passed: the number of right attempts, 0 .. L.
        score: ``passed / attempts``; 1.0 for a sample that was never solved.
    """

    sample: str
    attempts: int
    passed: int
    score: float

    @property
    def pass_rate(self) -> float:
        """Return the share of right attempts, 0 to 1."""
        return self.passed / self.attempts


@dataclass(frozen=True, slots=True)
class Solved:
    """The solution that a task's own rules find for an input of the task's own generator.

    Attributes:
        output: an output in the task's output format with the right answer.
        difficulty: the difficulty level of the input.
    """

    output: str
    difficulty: int


@dataclass(frozen=True, slots=True)
class TrainItem:
    """One item to train on.

    Attributes:
        id: unique in its job.
        prompt: input and output instruction: the same prompt that the base model got when the sample was scored.
        input: the input alone.
        label: the canonical answer.
        task: name of the task whose reward is used; empty in a job of one task. See
            :func:`dsrl.plugins.several_tasks.get_task`.
        attempts: number of attempts that the pass rate was measured with; 0 if it was not measured.
        passed: number of right attempts.
        output: an output with the right answer, for supervised fine-tuning; empty if there is none.
        is_solved: whether the greedy attempt was right; None if there was none.
    """

    id: str
    prompt: Prompt
    input: str
    label: str
    task: str = ""
    attempts: int = 0
    passed: int = 0
    output: str = ""
    is_solved: bool | None = None


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Everything that a trainer needs, apart from the task.

    Attributes:
        model: the model to start from: a folder in Hugging Face form or a hub id.
        items: the selected samples, in the order of their scores; each id appears once.
        dev_items: items for watching the training; they are never trained on. There may be none.
        output_dir: folder for the trained model, in Hugging Face form with safetensors. At the start it does not exist or
            is empty.
        work_dir: the trainer's own folder for checkpoints. After a kill the trainer gets the same job with the same folder
            again and continues from the last checkpoint.
        learning_rate: peak learning rate.
        epochs: passes over ``items``.
        batch_size: prompts per step.
        group_size: answers per prompt (the paper's group of 16).
        temperature: temperature of the rollouts.
        top_p: nucleus of the rollouts.
        kl_coef: weight of the KL term against the starting model; 0 switches it off.
        max_completion_tokens: maximum length of a rollout in tokens.
        max_prompt_tokens: items with longer prompts are left out and counted.
        seed: seed of everything that is random in training.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16``.
        lora_rank: 0 trains all weights; above 0, LoRA adapters of this rank are trained and merged at the end.
        eval_every: number of steps between two evaluations on ``dev_items``; 0: never. A trainer that evaluates reports
            ``dev_accuracy`` in the metrics of these steps, saves the model of the best evaluation (of the latest, if several
            are equal), and gives the number of its step as ``best_step`` in the metrics of the last step.
        choose: 0: train on all ``items`` in each epoch. Above 0, ``items`` are a pool: the trainer chooses the items of each
            step by what the model answers, and the training has as many steps as with so many items. Only a trainer whose
            hook ``can_choose`` returns True gets a number above 0.
    """

    model: str
    items: tuple[TrainItem, ...]
    output_dir: Path
    work_dir: Path
    learning_rate: float
    epochs: int
    batch_size: int
    group_size: int
    temperature: float
    top_p: float
    kl_coef: float
    max_completion_tokens: int
    max_prompt_tokens: int
    seed: int
    device: str = "auto"
    dtype: str = "auto"
    lora_rank: int = 0
    dev_items: tuple[TrainItem, ...] = ()
    eval_every: int = 0
    choose: int = 0


#: The metric in which a trainer reports the accuracy on the development items, and the one with the step that it has kept.
DEV_ACCURACY, BEST_STEP = "dev_accuracy", "best_step"
#: The metric in which a trainer reports the share of the prompts whose answers all have the same reward.
EQUAL_GROUPS = "equal_groups"


@dataclass(frozen=True, slots=True)
class TrainStep:
    """The report of a trainer after a step.

    Attributes:
        step: number of the step, from 1.
        steps: number of all steps.
        epoch: number of epochs so far, with a fraction.
        metrics: name -> number: ``loss``, ``reward``, ``reward_std``, ``kl``, ``grad_norm``, ``learning_rate``,
            ``completion_length``, ``seconds``, and others that the trainer adds. :class:`TrainJob` explains
            ``dev_accuracy`` (0 to 1) and ``best_step``.
        rewards: id -> mean reward, for each item of the step.
    """

    step: int
    steps: int
    epoch: float
    metrics: Mapping[str, float]
    rewards: Mapping[str, float]
