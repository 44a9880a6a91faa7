"""Where a provider's server is, which key belongs there, and how its SDK connects to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from dsrl import SettingsError, TeacherError, Usage
from dsrl.keys import find_key

#: Members of an SDK's client that hold credentials or headers from the environment.
_ENVIRONMENT_MEMBERS = (
    "organization", "project", "admin_api_key", "auth_token", "webhook_secret", "webhook_key",
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint(ABC):
    """A server that speaks a provider's API. A provider's plugin writes a subclass.

    Attributes:
        address: the base URL.
        key_variable: the environment variable that holds the key; empty for a server that gets no key.
        is_official: whether the server is the provider's own.
        provider: the provider's name in texts.
        provider_id: the provider's name in the keyring and in `genai-prices`.
        console: where users get a key.
        models_path: path of the list of models.
        page_cursor: the query parameter of lists that names the last row of the page before.
    """

    address: str
    key_variable: str
    is_official: bool

    provider: ClassVar[str]
    provider_id: ClassVar[str]
    console: ClassVar[str]
    models_path: ClassVar[str]
    page_cursor: ClassVar[str]

    @property
    def name(self) -> str:
        """The name of the server in texts."""
        return self.provider if self.is_official else f"the server at {self.address}"

    @property
    def key_page(self) -> str:
        """Where users get a key; empty for a server whose pages dsrl does not know."""
        return self.console if self.is_official else ""

    @property
    def price_source(self) -> str:
        """The provider's name for :func:`dsrl_http.prices.find_price`."""
        return self.provider_id if self.is_official else self.address

    def find_key(self) -> str:
        """Return the key from the environment or the keyring, or ``none`` for a server that gets no key.

        Raises:
            TeacherError: the server needs a key, and there is none.
        """
        if not self.key_variable:
            return "none"
        service = self.provider_id if self.is_official else urlsplit(self.address).hostname or self.provider_id
        return find_key([self.key_variable], service, self.key_page)

    @abstractmethod
    def import_sdk(self) -> Any:
        """Return the module of the SDK. The SDKs of OpenAI and Anthropic name their exceptions alike."""

    @abstractmethod
    def connect(self, key: str, timeout: float, http_client: Any) -> Any:
        """Return the SDK's asynchronous client, without retries, on an HTTP client. Called on the event loop."""

    @abstractmethod
    def read_usage(self, used: Any) -> Usage | None:
        """Return what the member ``usage`` of a body bills, or None if a part of it cannot be read."""


def check_address(address: str, name: str, example: str) -> None:
    """Check that an address is the URL of a server.

    Args:
        address: what the user wrote.
        name: how the user sets it, for the text.
        example: a valid address, for the text.

    Raises:
        SettingsError: it is not, or it holds a password.
    """
    try:
        split = urlsplit(address)
        is_valid = split.scheme in ("http", "https") and bool(split.hostname) and split.password is None
        _ = split.port
    except ValueError:
        is_valid = False
    if not is_valid:
        raise SettingsError(f"{name} is not a valid server URL (expected e.g. {example}, without a password)")


def is_same_host(address: str, other: str) -> bool:
    """Return whether two addresses have the same host."""
    return urlsplit(address).hostname == urlsplit(other).hostname


def check_positive(value: Any, name: str) -> float:
    """Return an option's value that must be a number above 0.

    Raises:
        SettingsError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise SettingsError(f"{name}={value!r} must be a number above 0")
    return float(value)


def strip_environment(client: Any, headers: Mapping[str, str] | None = None) -> Any:
    """Remove from an SDK's client what it read from the environment and would send, and return the client.

    The SDKs read headers, organization, project and more credentials of their own provider from the environment, whatever
    the address is. They have no argument that prevents this.

    Args:
        client: was just made.
        headers: the headers that it sends nevertheless.

    Raises:
        TeacherError: this version of the SDK keeps the headers elsewhere, so they cannot be removed.
    """
    if not isinstance(getattr(client, "_custom_headers", None), Mapping):
        package = type(client).__module__.partition(".")[0]
        raise TeacherError(
            f"this version of the package {package!r} cannot be kept from sending headers of the environment to another "
            "server. Install another version"
        )
    client._custom_headers = dict(headers or {})
    for name in _ENVIRONMENT_MEMBERS:
        if getattr(client, name, None) is not None:
            setattr(client, name, None)
    return client
