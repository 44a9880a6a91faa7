"""The instructor (paper, section 4): a teacher with the task's definition and the run's settings in hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.teaching.ledger import Ledger
from dsrl.types import Example, Message, Prompt, Purpose, Reply, Request

#: JSON schema of a sample, for teachers with structured output.
SAMPLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}, "output": {"type": "string"}},
    "required": ["input", "output"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Definition:
    """A task's definition in words (paper: I_des, I_input, I_output, D).

    Attributes:
        description: what the task is; the user's own words where given.
        input_instruction: may be empty.
        output_instruction: what ends every prompt of the base model.
        demos: demonstrations; may be none.
    """

    description: str
    input_instruction: str
    output_instruction: str
    demos: tuple[Example, ...] = ()

    def prompt(self, input: str) -> Prompt:
        """What the base model (and a voting teacher) is given: the input, then the output instruction."""
        return Prompt(f"{input} {self.output_instruction}")

    def words(self) -> dict[str, str]:
        """The three instructions, as prompts name them."""
        return {
            "description": self.description,
            "input_instruction": self.input_instruction or "None; any form that suits the task.",
            "output_instruction": self.output_instruction,
        }


@dataclass(frozen=True)
class Instructor:
    """Asks teachers through the ledger.

    Attributes:
        ledger: the way to them.
        model: the teacher's model.
        temperature: of all requests.
        max_tokens: length limit of a reply.
        models: of the teachers of single purposes, where they are others.
        retries_unreadable: how often a reply that is no sample is asked for anew.
    """

    ledger: Ledger
    model: str
    temperature: float
    max_tokens: int
    models: Mapping[Purpose, str] = field(default_factory=dict)
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
        """Give replies ``first .. first + n - 1`` to a prompt.

        Raises:
            TeacherError, RowRefused, StoreError: as the ledger does.
        """
        request = Request(
            purpose=purpose,
            model=self.models.get(purpose, self.model),
            messages=messages,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            n=n,
            first=first,
            schema=schema,
            variables=variables,
        )
        return (await self.ledger.complete(request)).replies


def as_json(example: Example) -> str:
    """Write an example as one line of JSON, as prompts show it."""
    return json.dumps({"input": example.input, "output": example.output}, ensure_ascii=False)
