"""What the fake provider replies: sensible samples, labels and keywords of the task ``mednli``.

A reply is a function of its prompt alone, so that a disturbed run must end with the samples of an undisturbed one. Each
reply also carries a serial number at a place that dsrl does not read, so that the reply store can be compared with the book.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from dsrl_tasks import mednli

_SERIAL = re.compile(r"torture-reply-(\d+)\b")


def serials_in(text: str) -> list[int]:
    """Give the serial numbers in a text."""
    return [int(number) for number in _SERIAL.findall(text)]


def prompt_of(body: Mapping[str, Any]) -> str:
    """Give all that a request says to the model, as one text."""
    return json.dumps([body.get("system"), body["messages"]], sort_keys=True)


def digest_of(*parts: object) -> int:
    """Give a large number that depends on all parts, the same in every process."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def reply_to(body: Mapping[str, Any], serial: int) -> str:
    """Reply to a request in the form of OpenAI or Anthropic."""
    mark = f"torture-reply-{serial}"
    number = digest_of(prompt_of(body))
    if any(name in body for name in ("response_format", "output_config", "tools")):
        return _sample(number, mark)
    content = body["messages"][-1]["content"]
    instruction = mednli.output_instruction()
    if content.endswith(instruction):
        return _answer(content.removesuffix(instruction).rstrip(), number, mark)
    # The line with the serial number is longer than any keyword, so that it counts as none.
    return f"medical\nmedicine\npatient\ndiagnosis\n{mark} {'is no keyword ' * 10}"


def _sample(number: int, mark: str) -> str:
    if number % 11 == 0:
        return f"I would rather not write this sample. {mark}"
    example = mednli.procedural_sample(seed=number % 2**40, difficulty=1 + number % 5, passage="")
    output = "<think> </think> <answer> neutral </answer>" if number % 7 == 0 else example.output
    return json.dumps({"input": example.input, "output": output, "note": mark})


def _answer(input: str, number: int, mark: str) -> str:
    solved = mednli.procedural_solve(input=input)
    if solved is None or number % 9 == 0:
        return f"I cannot answer this. {mark}"
    return f"{mark} {solved.output}"
