"""The instructor (paper, section 4): it asks the teachers with the definition of the task and the settings of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dsrl.pipeline.teachers import TeacherRoles
from dsrl.types import Completion, Example, Message, Prompt, Purpose, Reply, Request

#: JSON schema of a sample, for teachers with structured output.
SAMPLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}, "output": {"type": "string"}},
    "required": ["input", "output"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a task in words (paper: I_des, I_input, I_output, D).

    Attributes:
        description: what the task is; the user's text if there is one.
        input_instruction: how an input is built; may be empty.
        output_instruction: how an answer is written; it ends every prompt of the base model.
        demos: demonstrations; there may be none.
        system_prompt: the system text in the prompts of the base model; may be empty.
        is_chat: whether the base model is asked through its chat template.
    """

    description: str
    input_instruction: str
    output_instruction: str
    demos: tuple[Example, ...] = ()
    system_prompt: str = ""
    is_chat: bool = False

    def make_question(self, input: str) -> str:
        """Return what the base model and a voting teacher are asked: the input, then the output instruction."""
        return f"{input} {self.output_instruction}"

    def make_prompt(self, input: str) -> Prompt:
        """Return the prompt of the base model for an input."""
        return Prompt(self.make_question(input), self.system_prompt, self.is_chat)

    def get_instructions(self) -> dict[str, str]:
        """Return the three instructions under the names that the prompts of the teacher use."""
        return {
            "description": self.description,
            "input_instruction": self.input_instruction or "None; any form that suits the task.",
            "output_instruction": self.output_instruction,
        }


class Requester(Protocol):
    """What sends a request to a teacher: the ledger, or a recorder that only measures the request."""

    async def complete(self, request: Request) -> Completion:
        """Return the replies to a request."""


@dataclass(frozen=True)
class Instructor:
    """Asks the teachers.

    Attributes:
        requester: sends the requests: the ledger.
        teachers: the teacher for each purpose.
        temperature: temperature of all requests.
        max_tokens: maximum length of a reply in tokens.
        retries_unreadable: how often to ask again if a reply holds no sample.
    """

    requester: Requester
    teachers: TeacherRoles
    temperature: float
    max_tokens: int
    retries_unreadable: int = 0

    async def ask(
        self,
        purpose: Purpose,
        messages: tuple[Message, ...],
        variables: Mapping[str, str],
        n: int = 1,
        first: int = 0,
        schema: Mapping[str, Any] | None = None,
    ) -> Sequence[Reply]:
        """Return the replies with the numbers ``first .. first + n - 1`` to a prompt.

        Raises:
            TeacherError, RowRefused, StoreError: as in :meth:`dsrl.teaching.ledger.Ledger.complete`.
        """
        request = Request(
            purpose=purpose,
            model=self.teachers[purpose].model,
            messages=messages,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            n=n,
            first=first,
            schema=schema,
            variables=variables,
        )
        return (await self.requester.complete(request)).replies


def format_domain(domain: str) -> str:
    """Return the part of a prompt that names the domain of a sample; empty if ``domain`` is empty."""
    return f"The new sample must belong to this domain of the task: {domain}\n\n" if domain else ""


def format_example(example: Example) -> str:
    """Return an example as one line of JSON, as the prompts show it."""
    return json.dumps({"input": example.input, "output": example.output}, ensure_ascii=False)
