"""The servers of OpenAI, of Azure, and of everyone else who speaks OpenAI's API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dsrl_http.endpoint import Endpoint, check_address, is_same_host, strip_environment

from dsrl import SettingsError, Usage
from dsrl_openai.answers import read_usage

ADDRESS = "https://api.openai.com/v1"
_EXAMPLE = "http://127.0.0.1:8000/v1"


@dataclass(frozen=True)
class OpenAIEndpoint(Endpoint):
    """A server that speaks OpenAI's API.

    Attributes:
        is_azure: whether it is Azure's, which has other paths and other names of models.
        api_version: of Azure's dated API; empty for its API without versions.
        is_named_by_sdk: whether the address is OpenAI's, or the one in ``OPENAI_BASE_URL``. Only these servers get the
            headers that the environment holds for OpenAI's SDK (``OPENAI_CUSTOM_HEADERS``, ``OPENAI_ORG_ID``, ...).
    """

    is_azure: bool = False
    api_version: str = ""
    is_named_by_sdk: bool = False

    provider = "OpenAI"
    provider_id = "openai"
    console = "platform.openai.com (API keys)"
    models_path = "/models"
    page_cursor = "after"

    @property
    def name(self) -> str:
        """The name of the server in texts."""
        return "Azure OpenAI" if self.is_azure else super().name

    @property
    def key_page(self) -> str:
        """Where users get a key."""
        return "" if self.is_azure else super().key_page

    @property
    def price_source(self) -> str:
        """The provider's name for :func:`dsrl_http.prices.find_price`."""
        return "azure" if self.is_azure else super().price_source

    def import_sdk(self) -> Any:
        """Return the module ``openai``."""
        import openai

        return openai

    def connect(self, key: str, timeout: float, http_client: Any) -> Any:
        """Return the SDK's asynchronous client."""
        import openai

        client: Any
        shared: dict[str, Any] = {
            "api_key": key,
            "timeout": openai.Timeout(timeout, connect=20.0),
            "max_retries": 0,
            "http_client": http_client,
        }
        if self.api_version:
            client = openai.AsyncAzureOpenAI(azure_endpoint=self.address, api_version=self.api_version, **shared)
        else:
            client = openai.AsyncOpenAI(base_url=self.address, **shared)
        return client if self.is_named_by_sdk else strip_environment(client)

    def read_usage(self, used: Any) -> Usage | None:
        """Return what the member ``usage`` of a body bills, or None if a part of it cannot be read."""
        return read_usage(used)


def choose_endpoint(
    base_url: str, api_key_env: str, flag: str, azure_endpoint: str = "", api_version: str = ""
) -> OpenAIEndpoint:
    """Return the server that the options name.

    A key goes only where it belongs: ``OPENAI_API_KEY`` to OpenAI and to the server in ``OPENAI_BASE_URL``,
    ``AZURE_OPENAI_API_KEY`` to Azure. Any other server gets the key that ``api_key_env`` names, or none.

    Args:
        base_url, api_key_env, azure_endpoint, api_version: options of the plugin.
        flag: how the user gives options, for the text of errors.

    Raises:
        SettingsError: an address is not valid, or the options contradict each other.
    """
    if base_url and azure_endpoint:
        raise SettingsError(f"{flag} base_url and azure_endpoint exclude each other: give only one of them")
    if azure_endpoint:
        check_address(azure_endpoint, f"{flag} azure_endpoint", "https://NAME.openai.azure.com")
        # Azure's API without versions is OpenAI's API below this path.
        address = azure_endpoint if api_version else f"{azure_endpoint.rstrip('/')}/openai/v1"
        variable = api_key_env or "AZURE_OPENAI_API_KEY"
        return OpenAIEndpoint(address, variable, is_official=True, is_azure=True, api_version=api_version)
    if api_version:
        raise SettingsError(f"{flag} api_version belongs to azure_endpoint, which is not set")
    if base_url:
        check_address(base_url, f"{flag} base_url", _EXAMPLE)
        address = base_url.rstrip("/")
        if not is_same_host(address, ADDRESS):
            return OpenAIEndpoint(address, api_key_env, is_official=False)
    else:
        address = os.environ.get("OPENAI_BASE_URL", "").strip()
        if address:
            check_address(address, "the environment variable OPENAI_BASE_URL", _EXAMPLE)
        address = (address or ADDRESS).rstrip("/")
    variable = api_key_env or "OPENAI_API_KEY"
    return OpenAIEndpoint(address, variable, is_official=is_same_host(address, ADDRESS), is_named_by_sdk=True)
