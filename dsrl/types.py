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
    """The answer that could not be read. An explicit value, since ``None`` from a hook means "not answered"."""

    UNREADABLE = "unreadable"

    def __bool__(self) -> bool:
        return False


UNREADABLE = Unreadable.UNREADABLE

#: A canonical answer, or the statement that there is none.
Answer = str | Unreadable


@dataclass(frozen=True, slots=True)
class Example:
    """An input with its output: a demonstration, an item of a data set, a sample as a teacher wrote it."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a passage library.

    Attributes:
        id: unique in its library; ``file:line`` where the library names none.
        text: never empty.
        title: may be empty.
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
    """What the base model is asked: the text of the user's turn, and perhaps a system text before it.

    It is a string, so that an engine that knows no chat format can use it as it is. Whoever owns the tokenizer renders
    ``messages`` once with the model's chat template, if the model has one.

    Attributes:
        system: the system text; empty if there is none.
    """

    __slots__ = ("system",)
    system: str

    def __new__(cls, text: str, system: str = "") -> Prompt:
        prompt = super().__new__(cls, text)
        prompt.system = system
        return prompt

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as chat messages: the system text if there is one, then the user's turn."""
        user = Message("user", str(self))
        return (Message("system", self.system), user) if self.system else (user,)

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.system

    def __repr__(self) -> str:
        return f"Prompt({str(self)!r}, system={self.system!r})" if self.system else f"Prompt({str(self)!r})"


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
        name: name of the entry point.
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
        """Say whether the plugin, an override or a default implements the hook."""

    def accepts(self, hook: str, argument: str) -> bool:
        """Say whether an implementation of the hook takes the argument."""

    def digest_code(self, *hooks: str) -> str:
        """Return a digest of the code that implements the hooks, without dsrl's defaults: other code, another digest."""


#: What a request to a teacher is for; spending is booked by it, and a teacher can be chosen by it.
Purpose = Literal["keywords", "pattern", "write", "solve", "rewrite"]


@dataclass(frozen=True, slots=True)
class Request:
    """A question to a teacher: ``n`` independent answers to ``messages``.

    Attributes:
        purpose: what it is for.
        model: the provider's name of the model; empty for a teacher that has only one.
        messages: the prompt, the part that all requests of a purpose share first (so that providers can cache it).
        temperature: 0 is greedy.
        max_tokens: length limit of one answer, in tokens.
        n: how many answers are wanted.
        first: number of the first of them. Answers of one prompt are numbered; a reply is stored under prompt, settings
            and number, so that samples ``first .. first + n - 1`` are asked for once.
        top_p: nucleus sampling; 1 is off.
        schema: JSON schema of the answer, for providers with structured output; None for free text.
        variables: what the prompt was filled with, by name. A rule-based teacher reads these instead of prose. They
            are in the messages too, so they are no part of the reply's key.
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
    """One answer of a teacher.

    Attributes:
        text: what it wrote.
        finish_reason: ``stop``, ``length`` (cut off) or ``content_filter``.
    """

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a call was billed for.

    Attributes:
        prompt_tokens: all of the prompt, the two below included.
        completion_tokens: all that was written, hidden reasoning included.
        cached_tokens: those of ``prompt_tokens`` that were read from a prompt cache.
        cache_write_tokens: those of ``prompt_tokens`` that were billed for being put into one.
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
    """What a provider says is left of its limits; None where it does not say.

    Attributes:
        remaining_requests: requests that are still allowed.
        remaining_tokens: tokens that are still allowed.
        reset_requests: seconds until all requests are allowed again.
        reset_tokens: seconds until all tokens are allowed again.
    """

    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests: float | None = None
    reset_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What one call of a teacher gave for a :class:`Request`: one reply at least, ``request.n`` at most.

    Attributes:
        replies: in any order; they are independent answers.
        usage: what the call was billed for. None: the provider did not say, or a part of what it said cannot be read, so the
            bill is not known and counts at its worst case. Zeros from a teacher that is not free count as not known too.
        rate: what the provider says is left of its limits; None when it did not say.
    """

    replies: tuple[Reply, ...]
    usage: Usage | None = None
    rate: Rate | None = None


BatchStatus = Literal["in_progress", "ended", "failed", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is that was given to a provider.

    Attributes:
        status: all but ``in_progress`` are final. ``failed``: the provider took none of it.
        total: requests in it; 0 while the provider has not counted them.
        done: requests answered so far, where the provider says.
        failed: requests that failed so far, where the provider says.
        results: by the number of the request in the batch, when the status is final: what a call of its own would have
            given or raised (see ``TeacherSpec.complete``), with what it is billed for. What was not answered (cancelled,
            expired) is not in it. That and what met a ``TransientError`` is asked again.
        message: the provider's words where something went wrong with the whole.
    """

    status: BatchStatus
    total: int = 0
    done: int = 0
    failed: int = 0
    results: Mapping[int, Completion | Exception] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens.

    Attributes:
        prompt: of a prompt token.
        completion: of a token that is written.
        cached: of a prompt token read from a cache; None: as any other.
        cache_write: of a prompt token put into a cache; None: as any other.
        batch: what a batch costs as a share of all of these.
    """

    prompt: float
    completion: float
    cached: float | None = None
    cache_write: float | None = None
    batch: float = 1.0

    def cost(self, usage: Usage, batch: bool = False) -> float:
        """Dollars for ``usage``, in a batch or not."""
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
        """Dollars at most for so many tokens: as if every prompt token were put into a cache at its price."""
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
        output: the writer's own output.
        label: the canonical answer that the votes agreed on; None before verification and for a dropped sample.
        dropped: why it left the road (a snake_case reason); None while it is on it.
        parent: id of the sample that it was rewritten from.
        passage: id of the passage that it rests on.
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


@dataclass(frozen=True, slots=True)
class Score:
    """The base model's pass rate on a sample and what follows from it (paper, Equation 7).

    Attributes:
        sample: id of the sample.
        attempts: L.
        passed: how many of the L attempts were right, 0 .. L.
        score: ``passed / attempts``; 1.0 for a sample that was never solved.
    """

    sample: str
    attempts: int
    passed: int
    score: float

    @property
    def pass_rate(self) -> float:
        """Share of right attempts, 0 to 1."""
        return self.passed / self.attempts


@dataclass(frozen=True, slots=True)
class Solved:
    """What a task's own rules make of an input in the language of its own generator.

    Attributes:
        output: an output in the task's output format, with the right answer.
        difficulty: the level that the input was written at.
    """

    output: str
    difficulty: int


@dataclass(frozen=True, slots=True)
class TrainItem:
    """One item to train on.

    Attributes:
        id: unique in its job.
        prompt: input and output instruction, as the base model was asked when the sample was scored.
        input: the input alone.
        label: the canonical answer.
        task: name of the task whose reward counts; empty in a job of one task.
        attempts: how many answers of the base model the pass rate was measured with; 0 if it was not measured.
        passed: how many of these were right.
    """

    id: str
    prompt: Prompt
    input: str
    label: str
    task: str = ""
    attempts: int = 0
    passed: int = 0


@dataclass(frozen=True, slots=True)
class TrainJob:
    """All that a trainer is told, apart from the task.

    Attributes:
        model: folder (Hugging Face form) or hub id of the model to start from.
        items: the selected samples, in the order of their scores; each id once.
        dev_items: items that are kept apart to watch the training; never trained on. May be empty.
        output_dir: where the trained model goes, Hugging Face form, safetensors. Not there, or empty, at the start.
        work_dir: the trainer's own folder for checkpoints. After a kill the same job is given again with the same
            folder, and training goes on from the last checkpoint.
        learning_rate: peak learning rate.
        epochs: passes over ``items``.
        batch_size: prompts a step.
        group_size: answers a prompt (the paper's group of 16).
        temperature: of the rollouts.
        top_p: of the rollouts.
        kl_coef: weight of the KL term against the starting model; 0 switches it off.
        max_completion_tokens: length limit of a rollout.
        max_prompt_tokens: longer prompts are left out and counted.
        seed: of everything random in training.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``auto``, ``float32``, ``bfloat16``.
        lora_rank: 0 trains all weights; above it LoRA adapters of that rank, merged at the end.
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


@dataclass(frozen=True, slots=True)
class TrainStep:
    """What a trainer tells after each step.

    Attributes:
        step: 1-based.
        steps: how many there will be.
        epoch: fractional.
        metrics: the field's names: ``loss``, ``reward``, ``reward_std``, ``kl``, ``grad_norm``, ``learning_rate``,
            ``completion_length``, ``seconds``; others may be added.
        rewards: mean reward of each item of the batch, by its id.
    """

    step: int
    steps: int
    epoch: float
    metrics: Mapping[str, float]
    rewards: Mapping[str, float]
