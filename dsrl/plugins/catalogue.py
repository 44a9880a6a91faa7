"""A catalogue of plugins: a JSON file that says which plugins there are, without importing anything.

A catalogue is a hostile text: somebody else wrote it. Its size is limited, every field is checked, and nothing in it is run.

The file is an object with ``catalogue`` (the version of this form, 1) and ``plugins``, a list of objects:

======================  ============================================================================================
``kind``, ``name``      the kind of the plugin, and the name that the user types
``distribution``        the name of its distribution
``version``             the version of that distribution
``summary``             one sentence
``source``              an ``https://`` or ``git+https://`` address, or a folder in the repository of the catalogue
``hook_api``            the lowest and the highest version of the hook API that it works with, for example ``[1, 1]``
``sha256``              optional: the digest of the file behind ``source``, 64 hexadecimal digits
``licence``             optional: an SPDX identifier
``needs``               optional: sources that must be installed with it
======================  ============================================================================================
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dsrl.errors import DataError
from dsrl.plugins.discovery import list_plugins
from dsrl.plugins.specs import API_VERSION, KINDS
from dsrl.text import printable, replace_surrogates

#: The catalogue that comes with dsrl.
OWN_CATALOGUE = Path(__file__).with_name("catalogue.json")
#: Bytes of a catalogue, and number of its entries, at most.
LARGEST = 4 * 2**20
MOST_ENTRIES = 10_000
#: Seconds until the download of a catalogue is given up.
TIME_LIMIT = 30.0
#: Version of the form of a catalogue.
FORM = 1

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,98}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,98}")
_ADDRESS = re.compile(r"(git\+)?https://[A-Za-z0-9][A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]{0,999}")
_FOLDER = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]{0,198}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .()+-]{0,98}")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A plugin in a catalogue; every text is short and printable.

    Attributes:
        kind: the name of its kind.
        name: the name that the user types.
        distribution: the name of its distribution.
        version: the version of that distribution.
        summary: one sentence.
        source: an address, or a folder in the repository of the catalogue.
        hook_api: the lowest and the highest version of the hook API that it works with.
        sha256: the digest of the file behind ``source``; empty if it is not given.
        licence: an SPDX identifier; empty if it is not given.
        needs: sources that must be installed with it.
    """

    kind: str
    name: str
    distribution: str
    version: str
    summary: str
    source: str
    hook_api: tuple[int, int]
    sha256: str = ""
    licence: str = ""
    needs: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the plugin works with the hook API of this dsrl."""
        return self.hook_api[0] <= API_VERSION <= self.hook_api[1]

    def describe_api(self) -> str:
        """Return the range of the hook API, and whether this dsrl has a version in it."""
        low, high = self.hook_api
        versions = str(low) if low == high else f"{low} to {high}"
        if self.fits:
            return f"{versions} (fits)"
        hint = "upgrade dsrl" if low > API_VERSION else "too old"
        return f"{versions} (does not fit version {API_VERSION} of this dsrl: {hint})"

    def make_requirements(self) -> list[str]:
        """Return what to give to ``pip install``. pip compares the digest of a file."""
        if not self.source.startswith(("https://", "git+https://")):
            return [f"./{folder}" for folder in (*self.needs, self.source)]
        digest = f"#sha256={self.sha256.lower()}" if self.sha256 and self.source.startswith("https://") else ""
        return [*self.needs, f"{self.distribution} @ {self.source.partition('#')[0]}{digest}"]


InstallStatus = Literal["installed", "other version", "other package", "not installed"]


def find_status(entry: CatalogueEntry) -> tuple[InstallStatus, str]:
    """Return whether a plugin is installed, and the installed distribution with its version; nothing is imported."""
    installed = [plugin for plugin in list_plugins(entry.kind) if plugin.name == entry.name]
    own = [plugin for plugin in installed if _normalise(plugin.distribution) == _normalise(entry.distribution)]
    for plugin in own or installed:
        title = f"{plugin.distribution} {plugin.version}"
        if not own:
            return "other package", title
        return ("installed" if plugin.version == entry.version else "other version"), title
    return "not installed", ""


def read_catalogue(place: str = "") -> list[CatalogueEntry]:
    """Read a catalogue.

    Args:
        place: a file or an ``https://`` address; empty for the catalogue that comes with dsrl.

    Raises:
        DataError: it cannot be read, or something in it is wrong; the text names the entry and the field.
    """
    title = printable(place or str(OWN_CATALOGUE))
    if "://" in place:
        raw = _download(place, title)
    else:
        try:
            with Path(place or OWN_CATALOGUE).open("rb") as file:
                raw = file.read(LARGEST + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"catalogue {title} cannot be read: {reason}") from error
    if len(raw) > LARGEST:
        raise DataError(f"catalogue {title} is larger than {LARGEST // 2**20} MiB, the limit of a catalogue")
    return parse_catalogue(raw, title)


def parse_catalogue(raw: bytes, title: str) -> list[CatalogueEntry]:
    """Check the bytes of a catalogue and return its entries.

    Args:
        raw: the bytes.
        title: what errors call the catalogue.

    Raises:
        DataError: something is wrong; the text names the entry and the field.
    """
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"catalogue {title}:{line} is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise DataError(f"catalogue {title}:{error.lineno}: not JSON ({error.msg})") from error
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
        raise DataError(f"catalogue {title}: not JSON ({reason})") from error
    if not isinstance(document, dict) or "plugins" not in document:
        raise DataError(
            f'catalogue {title}: not a catalogue; it must be an object with "catalogue": {FORM} and "plugins"'
        )
    form = document.get("catalogue")
    if type(form) is not int or form != FORM:
        hint = "; upgrade dsrl" if type(form) is int and form > FORM else ""
        raise DataError(f"catalogue {title}: field `catalogue` is {_show(form)}, and this dsrl reads form {FORM}{hint}")
    rows = document["plugins"]
    if not isinstance(rows, list) or len(rows) > MOST_ENTRIES:
        raise DataError(f"catalogue {title}: field `plugins` must be a list of at most {MOST_ENTRIES:,} objects")
    entries = [_read_entry(row, f"catalogue {title}, entry {number}") for number, row in enumerate(rows, start=1)]
    seen: dict[tuple[str, str, str], int] = {}
    for number, entry in enumerate(entries, start=1):
        key = (entry.kind, entry.name, _normalise(entry.distribution))
        if key in seen:
            raise DataError(f"catalogue {title}, entry {number}: the same plugin as entry {seen[key]}")
        seen[key] = number
    return entries


def search_catalogue(entries: Sequence[CatalogueEntry], words: Sequence[str]) -> list[CatalogueEntry]:
    """Return the entries whose kind, name, distribution or summary contain every word; upper and lower case are alike."""

    def matches(entry: CatalogueEntry) -> bool:
        text = " ".join((entry.kind, entry.name, entry.distribution, entry.summary)).casefold()
        return all(word.casefold() in text for word in words)

    return [entry for entry in entries if matches(entry)]


# --- checks of one entry ---------------------------------------------------------------------------------------------


def _read_entry(row: Any, place: str) -> CatalogueEntry:
    if not isinstance(row, dict):
        raise DataError(f"{place}: must be an object, but is {_show(row)}")
    known = {field.name for field in fields(CatalogueEntry)}
    if unknown := [name for name in row if name not in known]:
        raise DataError(f"{place}: unknown field {_show(unknown[0])}; the fields are {', '.join(sorted(known))}")

    def read(name: str, rule: str, is_right: Callable[[str], object], default: str | None = None) -> str:
        if name not in row and default is not None:
            return default
        value = row.get(name)
        if not isinstance(value, str) or not is_right(value):
            problem = f"is {_show(value)}" if name in row else "is missing"
            raise DataError(f"{place}, field `{name}`: {problem}, but must be {rule}")
        return value

    address = "an address that begins with https:// or git+https://, or a folder of the catalogue's repository"
    needs = row.get("needs", [])
    if not isinstance(needs, list) or len(needs) > 20 or not all(isinstance(s, str) and _is_source(s) for s in needs):
        raise DataError(f"{place}, field `needs`: is {_show(needs)}, but must be a list of sources; each is {address}")
    summary = read("summary", "a text of 1 to 500 characters", lambda text: 0 < len(text.strip()) <= 500)
    return CatalogueEntry(
        kind=read("kind", f"one of {', '.join(KINDS)}", KINDS.__contains__),
        name=read("name", "a name of letters, digits, _, - and .", _NAME.fullmatch),
        distribution=read("distribution", "the name of a distribution", _DISTRIBUTION.fullmatch),
        version=read("version", "a version, for example 1.0", _VERSION.fullmatch),
        summary=" ".join(printable(replace_surrogates(summary)).split()),
        source=read("source", address, _is_source),
        hook_api=_read_range(row.get("hook_api"), place),
        sha256=read("sha256", "64 hexadecimal digits", _SHA256.fullmatch, default=""),
        licence=read("licence", "an SPDX identifier, for example Apache-2.0", _LICENCE.fullmatch, default=""),
        needs=tuple(needs),
    )


def _is_source(text: str) -> bool:
    return bool(_ADDRESS.fullmatch(text) or _FOLDER.fullmatch(text))


def _read_range(value: Any, place: str) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value):
        low, high = value
        if 1 <= low <= high <= 10_000:
            return low, high
    raise DataError(
        f"{place}, field `hook_api`: is {_show(value)}, but must be the lowest and the highest version of the hook API, for "
        f"example [1, {API_VERSION}]"
    )


def _show(value: Any) -> str:
    """Return the beginning of a wrong value; a value can be large and can hold control characters."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _normalise(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


# --- download --------------------------------------------------------------------------------------------------------


def _download(address: str, title: str) -> bytes:
    """Read a catalogue from the network, over https only, within :data:`TIME_LIMIT` and :data:`LARGEST`."""
    if not address.startswith("https://"):
        raise DataError(f"catalogue {title}: give a file, or an address that begins with https://")
    results: list[bytes | Exception] = []

    def work() -> None:
        try:
            results.append(_fetch(address))
        except Exception as error:  # noqa: BLE001 - it is raised in the other thread
            results.append(error)

    # In a thread, because a server that sends a byte now and then keeps every time limit of a socket.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(TIME_LIMIT)
    if not results:
        raise DataError(
            f"catalogue {title} was not complete after {TIME_LIMIT:.0f} s; download it to a file and give that"
        )
    result = results[0]
    if isinstance(result, bytes):
        return result
    if isinstance(result, DataError):
        raise result
    reason = printable(str(getattr(result, "reason", result)))[:200]
    raise DataError(f"catalogue {title} cannot be loaded: {reason}; check the address and the network") from result


def _fetch(address: str) -> bytes:
    """Return at most one byte more than a catalogue can have."""
    from urllib.request import HTTPSHandler, OpenerDirector, Request

    opener = OpenerDirector()  # without the handlers of http, ftp and file, so that no redirect leads to them
    for handler in (*_make_handlers(), HTTPSHandler()):
        opener.add_handler(handler)
    with opener.open(Request(address, headers={"User-Agent": "dsrl"}), timeout=TIME_LIMIT) as response:
        return bytes(response.read(LARGEST + 1))


def _make_handlers() -> tuple[Any, ...]:
    """Return the handlers of proxies, redirects and errors. A redirect is followed to https only."""
    from urllib import request

    class HttpsRedirects(request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if not newurl.startswith("https://"):
                raise DataError("the address of the catalogue leads to one that is not https")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return (
        request.ProxyHandler(),
        HttpsRedirects(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
    )
