"""The teacher ``procedural``: writes, answers and rewrites samples by the rules of the task itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from random import Random

from dsrl.errors import SettingsError, TeacherError
from dsrl.plugins.binding import Plugin
from dsrl.plugins.source_digest import source_digest
from dsrl.plugins.specs import TaskSpec, hookimpl
from dsrl.types import Completion, Example, Price, Reply, Request, Solved

#: Levels that first samples are written at, evenly.
LEVELS = (1, 2, 3, 4, 5)
_WORD = re.compile(r"[A-Za-z][a-z]{3,}")
# Words of a task description that say nothing about its domain.
_COMMON = frozenset(
    [
        "about",
        "answer",
        "another",
        "based",
        "between",
        "carefully",
        "correct",
        "derived",
        "determine",
        "each",
        "expected",
        "format",
        "from",
        "given",
        "into",
        "involving",
        "output",
        "pair",
        "problem",
        "provide",
        "question",
        "read",
        "relationship",
        "sentence",
        "sentences",
        "solution",
        "solve",
        "statement",
        "step",
        "task",
        "that",
        "their",
        "then",
        "these",
        "this",
        "understand",
        "using",
        "whether",
        "which",
        "while",
        "will",
        "with",
        "word",
        "words",
        "your",
    ]
)


class ProceduralTeacher:
    """Answers every request from the task's hooks ``procedural_sample`` and ``procedural_solve``.

    The same request gives the same replies. It reads :attr:`dsrl.types.Request.variables`, not the prose around them.

    Args:
        slip: share of answers that are wrong, 0 to 1, as those of a language model are; the votes have to mend them.
        wait: seconds that every reply takes, to rehearse a teacher behind a network.
    """

    def __init__(self, slip: float = 0.05, wait: float = 0.0) -> None:
        if not isinstance(slip, (int, float)) or not 0 <= slip <= 1:
            raise SettingsError(f"--teacher-option slip={slip!r} must be a share between 0 and 1")
        if not isinstance(wait, (int, float)) or wait < 0:
            raise SettingsError(f"--teacher-option wait={wait!r} must be a number of seconds")
        self._slip, self._wait = float(slip), float(wait)
        self._task: Plugin[TaskSpec] | None = None
        self._rules = ""

    @hookimpl
    def prepare(self, task: Plugin[TaskSpec]) -> None:
        missing = [hook for hook in ("procedural_sample", "procedural_solve") if not task.implements(hook)]
        if missing:
            raise TeacherError(
                f"task {task.name!r} has no hook {' and '.join(missing)}, so the teacher 'procedural' cannot write for it; "
                "choose another with --teacher"
            )
        self._task = task
        # An edited task often keeps its version; replies by its old rules must not count as replies by the new ones.
        self._rules = source_digest(
            found for hook in ("procedural_sample", "procedural_solve") for found in task.implementations(hook)
        )

    @hookimpl
    def identity(self) -> str:
        task = self._bound()
        return f"{task.name} of {task.distribution} {task.version} {sorted(task.ref.options.items())} {self._rules}"

    @hookimpl
    def price(self, model: str) -> Price:
        return Price(0.0, 0.0)

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        if self._wait:
            await asyncio.sleep(self._wait)
        numbers = range(request.first, request.first + request.n)
        return Completion(tuple(Reply(self._reply(request, Random(_seed(request, number)))) for number in numbers))

    def _reply(self, request: Request, rng: Random) -> str:
        match request.purpose:
            case "keywords":
                return _keywords(request.variables["description"])
            case "pattern":
                return _pattern(request.variables["examples"])
            case "write":
                return self._written(rng, rng.choice(LEVELS), request.variables["passage"])
            case "solve":
                return self._solved(rng, request.variables["input"])
            case "rewrite":
                return self._rewritten(rng, request.variables["direction"], request.variables["input"])

    def _bound(self) -> Plugin[TaskSpec]:
        if self._task is None:
            raise TeacherError("the teacher 'procedural' was asked before it saw the task")
        return self._task

    def _sample(self, rng: Random, difficulty: int, passage: str = "") -> Example:
        return self._bound().hook.procedural_sample(seed=rng.getrandbits(48), difficulty=difficulty, passage=passage)

    def _solution(self, input: str) -> Solved | None:
        return self._bound().hook.procedural_solve(input=input)

    def _written(self, rng: Random, difficulty: int, passage: str = "") -> str:
        sample = self._sample(rng, difficulty, passage)
        output = self._sample(rng, difficulty).output if rng.random() < self._slip else sample.output
        return json.dumps({"input": sample.input, "output": output}, ensure_ascii=False)

    def _solved(self, rng: Random, input: str) -> str:
        solution = self._solution(input)
        if solution is None:
            return "I cannot answer this by rule."
        # A slip is the answer to another sample: readable, plausible, and wrong more often than not.
        return self._sample(rng, solution.difficulty).output if rng.random() < self._slip else solution.output

    def _rewritten(self, rng: Random, direction: str, input: str) -> str:
        solution = self._solution(input)
        level = solution.difficulty if solution else LEVELS[len(LEVELS) // 2]
        step = rng.choice((1, 2))
        return self._written(rng, max(level + step if direction == "harder" else level - step, LEVELS[0]))


def _seed(request: Request, number: int) -> int:
    text = "\0".join((request.purpose, *(m.content for m in request.messages), str(number)))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")


def _keywords(description: str) -> str:
    """Name the content words of a task description, most frequent first."""
    words = Counter(word.lower() for word in _WORD.findall(description) if word.lower() not in _COMMON)
    return "\n".join(word for word, _ in words.most_common(10))


def _pattern(examples: str) -> str:
    """Say how long the parts of the demonstrations are and how they begin and end."""
    # Only \n ends a line: JSON strings may hold the other characters that str.splitlines cuts at.
    demos = [json.loads(line) for line in examples.split("\n") if line.strip()]
    lengths = {part: sorted(len(demo[part].split()) for demo in demos) for part in ("input", "output")}
    middle = {part: found[len(found) // 2] for part, found in lengths.items()}
    return (
        f"An input has about {middle['input']} words ({lengths['input'][0]} to {lengths['input'][-1]}); "
        f"an output has about {middle['output']} words ({lengths['output'][0]} to {lengths['output'][-1]})."
    )
