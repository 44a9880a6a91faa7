"""A process that renders a chat template once, with little memory, and ends: see :mod:`dsrl_transformers.template_check`.

It reads a JSON object from stdin: ``template``, ``chats`` (lists of messages), ``values`` (what else the template may
read), ``max_characters`` and ``max_bytes`` of memory. It writes a JSON object to stdout: ``texts``, or ``error``, or
``unavailable`` if the library cannot be used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def limit_memory(size: int) -> None:
    """Forbid this process to take more than ``size`` bytes of memory in addition to what it has; on Linux only."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):
        return


def render(job: dict[str, Any]) -> dict[str, Any]:
    """Render the template for each chat; the first one ends with the beginning of an answer."""
    try:
        from transformers.utils.chat_template_utils import render_jinja_template
    except ImportError as error:
        return {"unavailable": str(error)}
    limit_memory(job["max_bytes"])
    texts = []
    try:
        for number, chat in enumerate(job["chats"]):
            rendered: Any = render_jinja_template(
                conversations=[chat], chat_template=job["template"], add_generation_prompt=number == 0, **job["values"]
            )
            text = rendered[0][0]
            if len(text) > job["max_characters"]:
                return {"error": f"it makes a text of {len(text)} characters from a prompt of a few words"}
            texts.append(text)
    except MemoryError:
        return {"error": f"it needs more than {job['max_bytes'] // 2**20} MB of memory for a prompt of a few words"}
    except Exception as error:  # noqa: BLE001 - a template may raise anything
        first_line = (str(error).strip().splitlines() or ["no text"])[0][:300]
        return {"error": f"{type(error).__name__}: {first_line}"}
    return {"texts": texts}


if __name__ == "__main__":
    json.dump(render(json.load(sys.stdin)), sys.stdout)
