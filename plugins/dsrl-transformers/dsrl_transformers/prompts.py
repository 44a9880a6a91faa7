"""How a prompt becomes the text that the model reads: in one place, so that sampler and trainer see the same tokens."""

from __future__ import annotations

from dsrl import Prompt


def render_prompt(prompt: Prompt) -> str:
    """Return the text of a prompt: the system text if there is one, a blank line, then the user's text."""
    return f"{prompt.system}\n\n{prompt}" if prompt.system else str(prompt)
