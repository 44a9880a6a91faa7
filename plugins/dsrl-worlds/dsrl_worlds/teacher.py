"""The teacher ``noisy``: it writes chains, and on a share of them it is often wrong, mostly with the same mistake."""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from dsrl import BoundPlugin, Completion, Price, Reply, Request, SettingsError, TeacherError, hookimpl
from dsrl_worlds.world import LENGTHS, OPERATIONS, Chain, read_chain

if TYPE_CHECKING:
    from dsrl.plugins.specs import TaskSpec

#: Probability of a right reply: lowest and highest, on the inputs on which the teacher is sure.
_SURE = (0.85, 1.0)
#: Tries to find a mistake that changes the answer.
_TRIES = 100


class Doubt(NamedTuple):
    """How the teacher replies to the inputs on which it is often wrong.

    Attributes:
        lowest, highest: the probability of a right reply lies between these two; it is the same for all replies to an
            input.
        favourite: share of the wrong replies that make the favourite mistake of the input.
        wrong_labels: share of such inputs whose label is wrong after 16 votes and the sample's own answer, by simulation
            with three possible answers.
    """

    lowest: float
    highest: float
    favourite: float
    wrong_labels: float


SPLIT = Doubt(0.1, 0.6, 0.7, 0.58)
UNANIMOUS = Doubt(0.0, 0.2, 1.0, 1.0)


class NoisyTeacher:
    """Writes, answers and rewrites chains, with wrong answers that the votes correct in part. It costs nothing.

    On most inputs a reply is right with a probability of 0.85 to 1. On the others it is right with a probability of 0.1 to
    0.6, and 70% of the wrong replies take the same operation for the same other one. Which inputs these are, and what the
    mistake is, depends on the input only. A reply depends on the request and on its number only.

    Args:
        wrong: about the share of samples whose label is wrong after the votes, 0 to 0.5.
        unanimous: whether all wrong replies to an input make the same mistake, with a right reply in at most 20%: no vote
            and no agreement can then tell a wrong label from a right one.
    """

    def __init__(self, wrong: float = 0.2, unanimous: bool = False) -> None:
        if isinstance(wrong, bool) or not isinstance(wrong, (int, float)) or not 0 <= wrong <= 0.5:
            raise SettingsError(f"--teacher-option wrong={wrong!r} must be a share between 0 and 0.5")
        if not isinstance(unanimous, bool):
            raise SettingsError(f"--teacher-option unanimous={unanimous!r} must be true or false")
        self._doubt = UNANIMOUS if unanimous else SPLIT
        self._doubtful = wrong / self._doubt.wrong_labels
        self._bound_task: BoundPlugin[TaskSpec] | None = None

    @hookimpl
    def prepare(self, task: BoundPlugin[TaskSpec]) -> None:
        """Remember the task.

        Raises:
            TeacherError: it is not a task of this distribution.
        """
        if task.distribution != "dsrl-worlds":
            raise TeacherError(
                f"the teacher 'noisy' knows the tasks of dsrl-worlds only, and not {task.name!r}; choose another teacher "
                "with --teacher"
            )
        self._bound_task = task

    @hookimpl
    def identity(self) -> str:
        """Name the task and its world: the replies depend on them."""
        return f"{self._task.name} {sorted(self._task.ref.options.items())} {self._task.version}"

    @hookimpl
    def price(self, model: str) -> Price:
        """Return a price of 0."""
        return Price(0.0, 0.0)

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        """Return all replies."""
        numbers = range(request.first, request.first + request.n)
        return Completion(tuple(Reply(self._make_reply(request, _seed_reply(request, number))) for number in numbers))

    @property
    def _task(self) -> BoundPlugin[TaskSpec]:
        if self._bound_task is None:
            raise TeacherError("the teacher 'noisy' does not have a task yet: call its hook prepare before a request")
        return self._bound_task

    def _make_reply(self, request: Request, rng: Random) -> str:
        variables = request.variables
        match request.purpose:
            case "keywords":
                return "state machine\npermutation\noperation"
            case "pattern":
                return "An input is a chain of operations, and an output has one word for each of its states."
            case "write":
                return self._write(rng, rng.choice(LENGTHS))
            case "rewrite":
                chain = read_chain(variables["input"])
                length = len(chain.operations) if chain else LENGTHS[1]
                step = rng.choice((1, 2))
                return self._write(rng, length + step if variables["direction"] == "harder" else length - step)
            case "solve":
                return self._answer(rng, variables["input"])
            case "judge":
                raise TeacherError("the teacher 'noisy' cannot judge: choose another one with --judge-teacher")

    def _write(self, rng: Random, length: int) -> str:
        length = min(max(length, LENGTHS[0]), LENGTHS[-1])
        sample = self._task.hook.procedural_sample(seed=rng.getrandbits(48), difficulty=length, passage="", domain="")
        return json.dumps({"input": sample.input, "output": self._answer(rng, sample.input)})

    def _answer(self, rng: Random, text: str) -> str:
        """Answer an input, rightly or wrongly."""
        chain = read_chain(text)
        if chain is None:
            return "This is no chain."
        # What the teacher knows of an input is the same in all its replies.
        knowledge = Random(f"knowledge of {text}")
        is_doubtful = knowledge.random() < self._doubtful
        low, high = self._doubt[:2] if is_doubtful else _SURE
        right = self._solve(chain)
        if rng.random() < knowledge.uniform(low, high):
            return right
        favourite = self._make_mistake(knowledge, chain, {self._read(right)})
        if rng.random() < self._doubt.favourite:
            return favourite
        return self._make_mistake(rng, chain, {self._read(right), self._read(favourite)})

    def _make_mistake(self, rng: Random, chain: Chain, refused: set[str]) -> str:
        """Take one operation of a chain for another, so that the answer is none of those that are refused."""
        for _ in range(_TRIES):
            operations = list(chain.operations)
            operations[rng.randrange(len(operations))] = rng.randrange(OPERATIONS)
            output = self._solve(chain._replace(operations=tuple(operations)))
            if self._read(output) not in refused:
                return output
        return output

    def _solve(self, chain: Chain) -> str:
        return self._task.hook.procedural_solve(input=str(chain)).output

    def _read(self, output: str) -> str:
        return str(self._task.hook.process_prediction(output=output, input=""))


def _seed_reply(request: Request, number: int) -> Random:
    text = "\0".join((request.purpose, *(message.content for message in request.messages), str(number)))
    return Random(hashlib.sha256(text.encode("utf-8", "replace")).digest())
