from __future__ import annotations

import asyncio
import json
from random import Random
from types import SimpleNamespace
from typing import Any, get_args

from dsrl.pipeline.instructor import Definition, Instructor, format_domain, format_example
from dsrl.pipeline.stages.adapted import rewrite
from dsrl.pipeline.stages.initial import SampleSource, write_initial
from dsrl.pipeline.stages.keywords import find_keywords
from dsrl.pipeline.stages.pattern import summarise_pattern
from dsrl.pipeline.teachers import TeacherRole
from dsrl.teaching.ledger import _compute_key
from dsrl.types import Completion, Example, Message, Passage, Purpose, Reply, Request, Sample


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


#: The keys of stored replies to a run of one task without domains, as the version before several tasks made them.
_KEYS = {
    "keywords": ["cd785a972dd99557b5ae1fc49c71a6373d4a80e8fda502bf1607ffd8d9c560c6"],
    "pattern": ["d163f7fc4fab2976b1b75cf402ed6d25aee0849dee3a3e5f71c48b7def63a754"],
    "write": ["9536bfc660cb815736c02b400f17f394944e910a632ab94854276ae36563eede"],
    "rewrite": [
        "6b9adecb210af5cfa966ad3085ec3a05f4865ee83bec626c0c100e8eb4c59029",
        "24dcdccde8ed919b695d04c041a845fb16617364472c8488d5d09d9f5f55d865",
    ],
    "solve": ["2a2ff2d479d098d3d3c80b922ca82e0a43b42a2c1477617eae92b82a783f43e1"],
}


def test_the_requests_of_a_run_of_one_task_have_the_keys_of_earlier_versions() -> None:
    """Otherwise replies that are paid for and stored would be requested again."""
    recorder = Recorder()
    roles: Any = dict.fromkeys(get_args(Purpose), SimpleNamespace(model="m"))
    instructor = Instructor(recorder, roles, 0.7, 99)
    demos = (Example("1 + 1", "#### 2"), Example("2 + 3", "#### 5"))
    definition = Definition("Add numbers.", "Two numbers.", "After ####.", demos)
    sample = Sample("1-00000", 1, 0, "initial", "1 + 1", "#### 2", label="2")

    async def ask_all() -> None:
        await find_keywords(instructor, definition)
        await summarise_pattern(instructor, definition)
        source = SampleSource(1, 0, 7, Random(0), "Short.", Passage("p", "Apples."), domain="sums")
        await write_initial(instructor, definition, source)
        for solved in (True, False):
            await rewrite(instructor, definition, sample, solved, 0)
        question = (Message("user", definition.make_question("1 + 1")),)
        await instructor.ask("solve", question, {"input": "1 + 1"}, n=2)

    asyncio.run(ask_all())
    keys: dict[str, list[str]] = {}
    for request in recorder.requests:
        keys.setdefault(request.purpose, []).append(_compute_key({"identity": "x"}, request))
    assert keys == _KEYS


def test_a_prompt_names_the_domain_if_the_task_has_several() -> None:
    assert format_domain("") == ""
    assert "domain of the task: algebra" in format_domain("algebra")
