"""The check of a chat template, in bounds of time and memory.

A chat template is a small program of whoever published the model. The library runs it in a sandbox, which keeps it from
files and the network, but not from loops without an end or texts without a limit. So the first rendering, before anything is
paid, is in a process of its own (:mod:`dsrl_transformers.template_process`), which can be stopped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from dsrl import DataError, Prompt

#: A text that no template contains.
PROBE = "dsrl7probe"
#: Limits of the process: seconds, bytes of memory, characters in addition to the system text.
RENDER_SECONDS = 30.0
_MAX_BYTES = 2**29
_MAX_CHARACTERS = 200_000


def check_template(tokenizer: Any, system: str, model: str) -> None:
    """Check that a chat template renders a prompt, and a prompt with an answer, within bounds.

    Args:
        tokenizer: a tokenizer with a chat template.
        system: the system text; may be empty.
        model: name of the model, for the error text.

    Raises:
        DataError: the template raises, takes too much time or memory, or leaves out the text of the user.
    """
    try:
        template = str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates, and none with the name "default"
        raise make_template_error(model, f"ValueError: {error}", system) from error
    values = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    result = _render(template, system, tuple(sorted(values.items())))
    if "error" in result:
        raise make_template_error(model, result["error"], system)
    if "texts" in result and PROBE not in result["texts"][0].lower():
        raise make_template_error(model, "it leaves out the text of the user", system)


def make_template_error(model: str, reason: str, system: str) -> DataError:
    """Return the error about a chat template.

    Args:
        model: name of the model.
        reason: what is wrong with the template.
        system: the system text that it was given; may be empty.
    """
    hint = "leave --system-prompt out, or " if system else ""
    first_line = (reason.strip().splitlines() or ["no reason"])[0][:400]
    return DataError(
        f"the chat template of {model} cannot render a prompt: {first_line}; {hint}give --chat-template off"
    )


@lru_cache(maxsize=8)
def _render(template: str, system: str, values: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Render the template in a process of its own; see :mod:`dsrl_transformers.template_process` for the result."""
    prompt = [{"role": m.role, "content": m.content} for m in Prompt(PROBE, system, is_chat=True).messages]
    job = {
        "template": template,
        "chats": [prompt, [*prompt, {"role": "assistant", "content": PROBE}]],
        "values": dict(values),
        "max_characters": _MAX_CHARACTERS + 10 * len(system),
        "max_bytes": _MAX_BYTES,
    }
    # -P: no module is taken from the folder of the program.
    command = [sys.executable, "-P", str(Path(__file__).with_name("template_process.py"))]
    try:
        done = subprocess.run(
            command, input=json.dumps(job).encode(), capture_output=True, timeout=RENDER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it does not end within {RENDER_SECONDS:g} s"}
    except OSError as error:  # this machine cannot start a process
        return {"unavailable": str(error)}
    if done.returncode:
        return {
            "error": f"the process that renders it has ended with code {done.returncode}, perhaps for lack of memory"
        }
    result: dict[str, Any] = json.loads(done.stdout)
    return result
