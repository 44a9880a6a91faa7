"""Which settings a model takes. It is learned from what the model refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsrl_http.errors import ProviderError

_DISPENSABLE = ("response_format", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n")
_ABOUT_FORMAT = re.compile(
    r"response_format|json_schema|json_object|json mode|structured output|guided|grammar|contain the word 'json'", re.I
)
_ABOUT_N = re.compile(r"only one (?:completion )?choice", re.I)  # llama.cpp
_NOT_SUPPORTED = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|extra|invalid|instead", re.I
)
_SETTING = re.compile(r"['\"`]?\b(max_tokens|max_completion_tokens|temperature|top_p|n)\b['\"`]?")


@dataclass
class ModelSettings:
    """The settings that one model takes.

    Attributes:
        limit_name: the name of the length limit.
        max_n: maximum number of answers of one call.
        was_limit_renamed: whether the name of the length limit was changed once; it is not changed back.
        unsupported: settings that the model does not take.
    """

    limit_name: str
    max_n: int
    was_limit_renamed: bool = False
    unsupported: frozenset[str] = frozenset()

    def drop(self, setting: str) -> bool:
        """Do without a setting that was refused; return False if there is no other way to send it."""
        if setting in ("max_tokens", "max_completion_tokens"):
            if setting == self.limit_name:
                if self.was_limit_renamed:
                    return False
                self.limit_name = "max_tokens" if setting == "max_completion_tokens" else "max_completion_tokens"
                self.was_limit_renamed = True
        elif setting == "n":
            self.max_n = 1
        else:
            self.unsupported |= {setting}
        return True


def find_refused_setting(error: ProviderError, body: Mapping[str, Any]) -> str:
    """Return the setting in ``body`` that a refusal is about, or empty if it is about none that dsrl can do without."""
    if error.param:
        name = error.param.partition(".")[0]
        return name if name in _DISPENSABLE and name in body else ""
    if "response_format" in body and _ABOUT_FORMAT.search(error.message):
        return "response_format"
    if "n" in body and _ABOUT_N.search(error.message):
        return "n"
    if not _NOT_SUPPORTED.search(error.message):
        return ""
    return next((name for name in _SETTING.findall(error.message) if name in body), "")
