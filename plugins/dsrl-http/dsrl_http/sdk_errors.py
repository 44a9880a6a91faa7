"""Telling apart the exceptions of the SDKs and of their transports."""

from __future__ import annotations

#: Names of exceptions for a server that was not reached, so that the request was not sent. The names are compared, because
#: the SDKs' transports map these exceptions to different types, and a server that closes the connection to the same ones.
_UNREACHABLE = {
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ConnectionRefusedError",
    "gaierror",
    "ClientConnectorSSLError",
    "ClientConnectorCertificateError",
    "SSLCertVerificationError",
}
_TRANSPORTS = {"aiohttp", "httpx", "httpx2", "httpcore2"}


def is_unreachable(error: BaseException) -> bool:
    """Return whether the server was not reached, so that the request was certainly not sent."""
    return any(type(cause).__name__ in _UNREACHABLE for cause in _get_causes(error))


def is_of_transport(error: BaseException) -> bool:
    """Return whether an exception comes from the network or an HTTP library."""
    modules = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return isinstance(error, (OSError, EOFError)) or bool(modules & _TRANSPORTS)


def describe_cause(error: BaseException) -> str:
    """Return the text of what caused an exception of an SDK, whose own text says little."""
    texts = [str(cause) or type(cause).__name__ for cause in _get_causes(error)]
    return texts[min(1, len(texts) - 1)]


def _get_causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes
