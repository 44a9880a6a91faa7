from __future__ import annotations

import asyncio
import json
from typing import Any, get_args

from dsrl.pipeline.instructor import Definition, Instructor, format_example
from dsrl.pipeline.teachers import TeacherRole
from dsrl.types import Completion, Example, Message, Purpose, Reply, Request


class Recorder:
    """Records the requests in place of sending them to a teacher."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        return Completion(tuple(Reply(f"reply {request.first + number}") for number in range(request.n)))


def test_the_output_instruction_ends_every_prompt_of_the_base_model() -> None:
    definition = Definition("d", "", "In <answer> tags.", system_prompt="You are a doctor.", is_chat=True)
    prompt = definition.make_prompt("Is it?")
    assert prompt == definition.make_question("Is it?") == "Is it? In <answer> tags."
    assert (prompt.system, prompt.is_chat) == ("You are a doctor.", True)


def test_the_teacher_reads_that_an_input_may_have_any_form() -> None:
    assert Definition("d", "A question.", "o").get_instructions()["input_instruction"] == "A question."
    assert Definition("d", "", "o").get_instructions()["input_instruction"].startswith("None; any form")


def test_an_example_is_one_line_of_json_in_its_own_letters() -> None:
    line = format_example(Example('a "quoted"\nä', "yes"))
    assert "\n" not in line
    assert "ä" in line
    assert json.loads(line) == {"input": 'a "quoted"\nä', "output": "yes"}


def test_a_request_has_the_model_of_its_purpose_and_the_settings_of_the_run(make_context: Any) -> None:
    teacher = make_context().teachers["write"].plugin
    roles = {purpose: TeacherRole(teacher, f"model-{purpose}") for purpose in get_args(Purpose)}
    recorder = Recorder()
    messages = (Message("user", "Solve."),)
    replies = asyncio.run(
        Instructor(recorder, roles, 0.7, 99).ask(
            "solve", messages, {"input": "q"}, n=2, first=3, schema={"type": "object"}
        )
    )
    assert [reply.text for reply in replies] == ["reply 3", "reply 4"]
    assert recorder.requests == [
        Request("solve", "model-solve", messages, 0.7, 99, 2, 3, schema={"type": "object"}, variables={"input": "q"})
    ]
