"""The servers of Anthropic, and of everyone else who speaks its Messages API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsrl_http.endpoint import Endpoint, check_address, is_same_host, strip_environment

from dsrl import Usage
from dsrl_anthropic.answers import read_usage

ADDRESS = "https://api.anthropic.com"


@dataclass(frozen=True)
class AnthropicEndpoint(Endpoint):
    """A server that speaks Anthropic's Messages API.

    Attributes:
        api_version: of the API; empty for the SDK's.
    """

    api_version: str = ""

    provider = "Anthropic"
    provider_id = "anthropic"
    console = "platform.claude.com (API keys)"
    models_path = "/v1/models"
    page_cursor = "after_id"

    def import_sdk(self) -> Any:
        """Return the module ``anthropic``."""
        import anthropic

        return anthropic

    def connect(self, key: str, timeout: float, http_client: Any) -> Any:
        """Return the SDK's asynchronous client."""
        import anthropic

        headers = {"anthropic-version": self.api_version} if self.api_version else {}
        client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=self.address,
            timeout=anthropic.Timeout(timeout, connect=20.0),
            max_retries=0,
            default_headers=headers,
            http_client=http_client,
        )
        # The headers that the environment holds for Anthropic's SDK belong to Anthropic.
        return client if self.is_official else strip_environment(client, headers)

    def read_usage(self, used: Any) -> Usage | None:
        """Return what the member ``usage`` of a body bills, or None if a part of it cannot be read."""
        return read_usage(used)


def choose_endpoint(base_url: str, api_key_env: str, api_version: str, flag: str) -> AnthropicEndpoint:
    """Return the server that the options name.

    A key goes only where it belongs: ``ANTHROPIC_API_KEY`` to Anthropic. Any other server gets the key that ``api_key_env``
    names, or none.

    Args:
        base_url, api_key_env, api_version: options of the plugin.
        flag: how the user gives options, for the text of errors.

    Raises:
        SettingsError: the address is not valid.
    """
    if base_url:
        check_address(base_url, f"{flag} base_url", ADDRESS)
    address = base_url.rstrip("/") or ADDRESS
    is_official = is_same_host(address, ADDRESS)
    variable = api_key_env or ("ANTHROPIC_API_KEY" if is_official else "")
    return AnthropicEndpoint(address, variable, is_official, api_version)
