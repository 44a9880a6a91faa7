"""Where a server is, which key belongs there, and the SDK's client for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dsrl_http.remote import Remote, Service, forget_environment, tokens

from dsrl.errors import SettingsError
from dsrl.keys import find_key
from dsrl.types import Usage

OPENAI = "https://api.openai.com/v1"
_PAGE = "platform.openai.com (API keys)"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that speaks OpenAI's API.

    Attributes:
        address: base URL as it is asked.
        variable: environment variable that holds its key; empty for one that gets none.
        azure: whether it is Azure, whose addresses and models are named otherwise.
        api_version: of Azure; empty for its version-less API.
        named_by_sdk: whether the address is OpenAI's, or the one that ``OPENAI_BASE_URL`` names. Only then do the headers
            belong to it that the environment has for OpenAI's SDK (``OPENAI_CUSTOM_HEADERS``, ``OPENAI_ORG_ID``, ...).
    """

    address: str
    variable: str
    azure: bool = False
    api_version: str = ""
    named_by_sdk: bool = False

    @property
    def official(self) -> bool:
        """Whether it is OpenAI's or Azure's own."""
        return self.azure or urlsplit(self.address).hostname == urlsplit(OPENAI).hostname

    @property
    def price_source(self) -> str:
        """What :func:`dsrl_http.prices.lookup` knows it as."""
        if self.azure:
            return "azure"
        return "openai" if self.official else self.address

    def remote(self, timeout: float) -> Remote:
        """Make the way to it.

        Raises:
            TeacherError: it wants a key, and there is none.
        """
        import openai

        name = ("Azure OpenAI" if self.azure else "OpenAI") if self.official else f"the server at {self.address}"
        page = _PAGE if self.official and not self.azure else ""
        keeper = "openai" if self.official else urlsplit(self.address).hostname or "openai"
        key = find_key([self.variable], keeper, page) if self.variable else "none"
        shared: dict[str, Any] = {"api_key": key, "timeout": openai.Timeout(timeout, connect=20.0), "max_retries": 0}

        def connect(http: Any) -> Any:
            client: Any
            if self.api_version:
                client = openai.AsyncAzureOpenAI(
                    azure_endpoint=self.address, api_version=self.api_version, http_client=http, **shared
                )
            else:
                client = openai.AsyncOpenAI(base_url=self.address, http_client=http, **shared)
            return client if self.named_by_sdk else forget_environment(client)

        return Remote(Service(name, self.variable, page), openai, connect, key, self.address, timeout, read_usage)


def server(base_url: str, api_key_env: str, azure_endpoint: str = "", api_version: str = "", flag: str = "") -> Server:
    """Find out where to go and which key to take along.

    A key goes only where it belongs: ``OPENAI_API_KEY`` to OpenAI and to what ``OPENAI_BASE_URL`` names beside it,
    ``AZURE_OPENAI_API_KEY`` to Azure; any other server gets the key that ``api_key_env`` names, or none.

    Raises:
        SettingsError: an address that is none, or two of them.
    """
    if base_url and azure_endpoint:
        raise SettingsError(f"{flag} base_url and azure_endpoint exclude each other")
    if azure_endpoint:
        _check_address(azure_endpoint, f"{flag} azure_endpoint")
        # Azure's API without versions is OpenAI's, below this path.
        address = azure_endpoint if api_version else f"{azure_endpoint.rstrip('/')}/openai/v1"
        return Server(address, api_key_env or "AZURE_OPENAI_API_KEY", azure=True, api_version=api_version)
    if api_version:
        raise SettingsError(f"{flag} api_version belongs to azure_endpoint, which is not given")
    if base_url:
        _check_address(base_url, f"{flag} base_url")
        found = Server(base_url.rstrip("/"), api_key_env)
        return Server(found.address, api_key_env or "OPENAI_API_KEY", named_by_sdk=True) if found.official else found
    from_environment = os.environ.get("OPENAI_BASE_URL", "").strip()
    if from_environment:
        _check_address(from_environment, "the environment variable OPENAI_BASE_URL")
    return Server((from_environment or OPENAI).rstrip("/"), api_key_env or "OPENAI_API_KEY", named_by_sdk=True)


def read_usage(used: Any) -> Usage | None:
    """Read what a call was billed for; None where it is not said, or a part of it cannot be read."""
    try:
        prompt, completion = tokens(used, "prompt_tokens"), tokens(used, "completion_tokens")
        cached = tokens(used, "prompt_tokens_details", "cached_tokens", default=0)
        total = tokens(used, "total_tokens", default=0)
    except ValueError:
        return None
    if cached > prompt:  # one of the two is wrong
        return None
    # Some servers count hidden reasoning in the total alone.
    return Usage(prompt, max(completion, total - prompt), cached)


def positive(value: Any, name: str) -> float:
    """Check a number of seconds or the like."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise SettingsError(f"{name}={value!r} must be a number above 0")
    return float(value)


def _check_address(address: str, name: str) -> None:
    try:
        split = urlsplit(address)
        good = split.scheme in ("http", "https") and bool(split.hostname) and split.password is None
        _ = split.port
    except ValueError:
        good = False
    if not good:
        raise SettingsError(
            f"{name} is no address of a server; it looks like http://127.0.0.1:8000/v1, without a password"
        )
