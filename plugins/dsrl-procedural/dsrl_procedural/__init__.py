"""The teacher ``procedural``: it writes, answers and rewrites samples by the rules of the task itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from dsrl import (
    UNREADABLE,
    BoundPlugin,
    Completion,
    Example,
    Price,
    Reply,
    Request,
    SettingsError,
    Solved,
    TeacherError,
    hookimpl,
)

if TYPE_CHECKING:
    from dsrl.plugins.specs import TaskSpec

_log = logging.getLogger(__name__)
#: The levels at which samples are first written, each equally often.
LEVELS = (1, 2, 3, 4, 5)
#: The hooks of a task that this teacher needs.
_RULES = ("procedural_sample", "procedural_solve")
#: The hooks that read and compare answers when it judges.
_READERS = ("process_label", "process_prediction", "eval")
_WORD = re.compile(r"[A-Za-z][a-z]{3,}")
# Words of a task description that say nothing about its domain.
_COMMON_WORDS = frozenset(
    """
    about answer another based between carefully correct derived determine each expected format from
    given into involving output pair problem provide question read relationship sentence sentences solution
    solve statement step task that their then these this understand using whether which
    while will with word words your
    """.split()
)


class ProceduralTeacher:
    """Answers every request with the task's hooks ``procedural_sample`` and ``procedural_solve``.

    It judges by them too, so that a judged run can be tried at no cost: a rubric is not read.

    The same request gets the same replies. The teacher reads :attr:`dsrl.types.Request.variables`, not the messages.

    Args:
        slip: share of wrong answers, 0 to 1. A language model makes mistakes too, and the votes must correct them.
        wait: time that every reply takes in seconds, to try out a teacher behind a network.
    """

    def __init__(self, slip: float = 0.05, wait: float = 0.0) -> None:
        if not isinstance(slip, (int, float)) or not 0 <= slip <= 1:
            raise SettingsError(f"--teacher-option slip={slip!r} must be a share between 0 and 1")
        if not isinstance(wait, (int, float)) or wait < 0:
            raise SettingsError(f"--teacher-option wait={wait!r} must be a number of seconds, 0 or more")
        self._slip, self._wait = float(slip), float(wait)
        self._bound_task: BoundPlugin[TaskSpec] | None = None
        self._rules_digest = ""
        self._missed: set[str] = set()

    @hookimpl
    def prepare(self, task: BoundPlugin[TaskSpec]) -> None:
        """Remember the task.

        Raises:
            TeacherError: the task has no rules to write and to solve samples.
        """
        missing = [hook for hook in _RULES if not task.implements(hook)]
        if missing:
            raise TeacherError(
                f"task {task.name!r} has no hook {' and '.join(missing)}, so the teacher 'procedural' cannot write samples "
                "for it; choose another teacher with --teacher"
            )
        self._bound_task = task
        # An edited task often keeps its version. Replies by its old rules must not count as replies by the new rules.
        self._rules_digest = task.digest_code(*_RULES, *_READERS)

    @hookimpl
    def identity(self) -> str:
        """Name the task, its options and its rules: the replies depend on them."""
        task = self._task
        options = sorted(task.ref.options.items())
        return f"{task.name} of {task.distribution} {task.version} {options} {self._rules_digest}"

    @hookimpl
    def price(self, model: str) -> Price:
        """Return a price of 0."""
        return Price(0.0, 0.0)

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        """Return all replies. Each depends on the request and on its number only."""
        if self._wait:
            await asyncio.sleep(self._wait)
        numbers = range(request.first, request.first + request.n)
        replies = [Reply(self._make_reply(request, Random(_make_seed(request, number)))) for number in numbers]
        return Completion(tuple(replies))

    def _make_reply(self, request: Request, rng: Random) -> str:
        variables = request.variables
        match request.purpose:
            case "keywords":
                return _list_keywords(variables["description"])
            case "pattern":
                return _describe_pattern(variables["examples"])
            case "write":
                return self._write(rng, rng.choice(LEVELS), variables["passage"], variables.get("domain", ""))
            case "solve":
                return self._solve(rng, variables["input"])
            case "rewrite":
                return self._rewrite(rng, variables["direction"], variables["input"], variables.get("domain", ""))
            case "judge":
                return self._judge(variables["input"], variables["output"], variables["reference"])

    @property
    def _task(self) -> BoundPlugin[TaskSpec]:
        if self._bound_task is None:
            raise TeacherError(
                "the teacher 'procedural' does not have a task yet: its hook prepare must be called before a request"
            )
        return self._bound_task

    def _make_sample(self, rng: Random, difficulty: int, passage: str = "", domain: str = "") -> Example:
        seed = rng.getrandbits(48)
        sample = self._task.hook.procedural_sample(seed=seed, difficulty=difficulty, passage=passage, domain=domain)
        if domain and not self._task.accepts("procedural_sample", "domain"):
            self._warn("")
        elif domain and sample.domain not in ("", domain):
            self._warn(domain)
        return sample

    def _warn(self, domain: str) -> None:
        """Warn, once for each domain, that the samples of a domain are none; the empty text stands for all domains."""
        if domain in self._missed:
            return
        self._missed.add(domain)
        if domain:
            _log.warning(
                "the task %r has no rules for the domain %r: the teacher 'procedural' writes samples of other domains in "
                "their place; name only domains with rules (--domain), or choose another --teacher",
                self._task.name,
                domain,
            )
        else:
            _log.warning(
                "the rules of the task %r know no domains (procedural_sample takes none): the teacher 'procedural' writes "
                "the same samples for each domain",
                self._task.name,
            )

    def _find_solution(self, question: str) -> Solved | None:
        return self._task.hook.procedural_solve(input=question)

    def _write(self, rng: Random, difficulty: int, passage: str = "", domain: str = "") -> str:
        sample = self._make_sample(rng, difficulty, passage, domain)
        output = (
            self._make_sample(rng, difficulty, domain=domain).output if rng.random() < self._slip else sample.output
        )
        return json.dumps({"input": sample.input, "output": output}, ensure_ascii=False)

    def _solve(self, rng: Random, question: str) -> str:
        solution = self._find_solution(question)
        if solution is None:
            return "I cannot answer this by rule."
        # A slip is the answer to another sample: readable, plausible, and usually wrong.
        return self._make_sample(rng, solution.difficulty).output if rng.random() < self._slip else solution.output

    def _rewrite(self, rng: Random, direction: str, question: str, domain: str) -> str:
        solution = self._find_solution(question)
        level = solution.difficulty if solution else LEVELS[len(LEVELS) // 2]
        step = rng.choice((1, 2))
        level = max(level + step if direction == "harder" else level - step, LEVELS[0])
        return self._write(rng, level, domain=domain)

    def _judge(self, question: str, output: str, reference: str) -> str:
        """Give full points to an answer that is right by the rules, and none to another; the rubric is not read.

        The right answer to an input that the rules do not solve, such as a real one, is that of the reference.
        """
        solution, hook = self._find_solution(question), self._task.hook
        gold = solution.output if solution else reference
        if not gold:
            raise TeacherError(
                f"the teacher 'procedural' judges by the rules of the task {self._task.name!r}, which do not solve this "
                f"input, and there is no reference: {question[:80]!r}. Name another teacher with --judge-teacher"
            )
        label = hook.process_label(output=gold, input=question)
        answer = hook.process_prediction(output=output, input=question)
        is_readable = answer is not UNREADABLE and label is not UNREADABLE
        is_right = is_readable and hook.eval(prediction=str(answer), label=str(label), input=question)
        reason = f"By rule the answer is {'right' if is_right else 'wrong'}."
        return json.dumps({"reason": reason, "addresses_judge": False, "score": 10 if is_right else 0})


def _make_seed(request: Request, number: int) -> int:
    text = "\0".join((request.purpose, *(m.content for m in request.messages), str(number)))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")


def _list_keywords(description: str) -> str:
    """List the content words of a task description, the most frequent first."""
    words = Counter(word.lower() for word in _WORD.findall(description) if word.lower() not in _COMMON_WORDS)
    return "\n".join(word for word, _ in words.most_common(10))


def _describe_pattern(examples: str) -> str:
    """Describe how long the inputs and outputs of the demonstrations are."""
    # Split at \n only: JSON strings can contain the other characters at which str.splitlines splits.
    demos = [json.loads(line) for line in examples.split("\n") if line.strip()]
    lengths = {part: sorted(len(demo[part].split()) for demo in demos) for part in ("input", "output")}
    middle = {part: counts[len(counts) // 2] for part, counts in lengths.items()}
    return (
        f"An input has about {middle['input']} words ({lengths['input'][0]} to {lengths['input'][-1]}); "
        f"an output has about {middle['output']} words ({lengths['output'][0]} to {lengths['output'][-1]})."
    )
