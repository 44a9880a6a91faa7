"""Reading the answers of Anthropic's API. Their shape is promised, but not certain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dsrl_http.json_values import get_member, make_reply, read_tokens

from dsrl import Completion, Rate, RowRefused, TransientError, Usage

_FINISH_REASONS = {"max_tokens": "length", "model_context_window_exceeded": "length"}


def read_completion(body: Mapping[str, Any], rate: Rate | None = None) -> Completion:
    """Return the reply in a message.

    Args:
        body: the answer.
        rate: what remains of the rate limits.

    Raises:
        RowRefused: the model refuses.
        TransientError: the message is empty.
    """
    usage = read_usage(body.get("usage"))
    stop_reason = get_member(body, "stop_reason", str)
    blocks = get_member(body, "content", list)
    tool_inputs = [get_member(b, "input", dict) for b in blocks if get_member(b, "type", str) == "tool_use"]
    text = "".join(get_member(b, "text", str) for b in blocks if get_member(b, "type", str) == "text")
    if stop_reason == "refusal":
        raise RowRefused("refused", text[:500], usage, unknown=usage is None)
    if tool_inputs:
        text = json.dumps(tool_inputs[0], ensure_ascii=False)
    if not blocks and stop_reason not in _FINISH_REASONS:
        raise TransientError("the answer has no content", rate=rate, usage=usage, unknown=usage is None)
    return Completion((make_reply(text, _FINISH_REASONS.get(stop_reason, "stop")),), usage, rate)


def read_usage(used: Any) -> Usage | None:
    """Return what a call was billed for, or None if a part of it is missing or cannot be read."""
    try:
        fresh, output = read_tokens(used, "input_tokens"), read_tokens(used, "output_tokens")
        read = read_tokens(used, "cache_read_input_tokens", default=0)
        written = read_tokens(used, "cache_creation_input_tokens", default=0)
    except ValueError:
        return None
    # The API counts the tokens that passed through the cache separately.
    return Usage(fresh + read + written, output, read, written)
