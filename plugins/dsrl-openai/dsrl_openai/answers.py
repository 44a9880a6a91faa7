"""Reading the answers of OpenAI's API. Their shape is promised, but not certain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsrl_http.json_values import get_member, make_reply, read_tokens

from dsrl import Completion, Rate, RowRefused, TransientError, Usage
from dsrl.keys import excerpt

_FINISH_REASONS = {"length": "length", "content_filter": "content_filter"}


def read_completion(body: Mapping[str, Any], rate: Rate | None = None, n: int | None = None) -> Completion:
    """Return the replies of a chat completion.

    Args:
        body: the answer.
        rate: what remains of the rate limits.
        n: maximum number of replies; None for all.

    Raises:
        RowRefused: the model refuses, in every choice.
        TransientError: the answer has no choices, or one that failed.
    """
    usage = read_usage(body.get("usage"))
    is_unknown = usage is None
    replies, refusals = [], []
    for choice in get_member(body, "choices", list):
        message = get_member(choice, "message", dict)
        finish_reason = _FINISH_REASONS.get(get_member(choice, "finish_reason", str), "stop")
        if error := get_member(choice, "error", dict):
            reason = excerpt(get_member(error, "message", str), 200)
            raise TransientError(f"a choice of the answer failed: {reason}", rate=rate, usage=usage, unknown=is_unknown)
        refusal = get_member(message, "refusal", str)
        if refusal:
            refusals.append(refusal)
            finish_reason = "content_filter"
        replies.append(make_reply(_read_text(message.get("content")) or refusal, finish_reason))
    if not replies:
        raise TransientError("the answer has no choices", rate=rate, usage=usage, unknown=is_unknown)
    if len(refusals) == len(replies):
        raise RowRefused("refused", refusals[0][:500], usage, unknown=is_unknown)
    return Completion(tuple(replies[:n]), usage, rate)


def read_usage(used: Any) -> Usage | None:
    """Return what a call was billed for, or None if a part of it is missing or cannot be read."""
    try:
        prompt, completion = read_tokens(used, "prompt_tokens"), read_tokens(used, "completion_tokens")
        cached = read_tokens(used, "prompt_tokens_details", "cached_tokens", default=0)
        total = read_tokens(used, "total_tokens", default=0)
    except ValueError:
        return None
    if cached > prompt:  # one of the two is wrong
        return None
    # Some servers count hidden reasoning only in the total.
    return Usage(prompt, max(completion, total - prompt), cached)


def _read_text(content: Any) -> str:
    if isinstance(content, list):  # some servers write the text in parts
        return "".join(get_member(part, "text", str) for part in content)
    return content if isinstance(content, str) else ""
