"""Catalogues of plugins: hostile texts that are checked, printed and never run."""

from __future__ import annotations

import json
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.errors import DataError
from dsrl.plugins import catalogue
from dsrl.plugins.catalogue import LARGEST, MOST_ENTRIES, find_status, parse_catalogue, read_catalogue, search_catalogue
from dsrl.plugins.specs import API_VERSION, KINDS

ROOT = Path(__file__).parents[2]
ENTRY: dict[str, Any] = {
    "kind": "task",
    "name": "lifts",
    "distribution": "lift-task",
    "version": "1.0",
    "summary": "May a lift carry these loads?",
    "source": "https://example.org/lift_task-1.0-py3-none-any.whl",
    "hook_api": [1, 1],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)


def parse(*entries: Any, **document: Any) -> list[catalogue.CatalogueEntry]:
    return parse_catalogue(json.dumps({"catalogue": 1, "plugins": list(entries), **document}).encode(), "c.json")


# --- our own ----------------------------------------------------------------------------------------------------------


def test_our_catalogue_lists_what_our_packages_declare() -> None:
    declared = set()
    for path in [*ROOT.glob("plugins/*/pyproject.toml"), ROOT / "contrib_tasks/pyproject.toml"]:
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        for group, points in project.get("entry-points", {}).items():
            (kind,) = (kind.name for kind in KINDS.values() if kind.group == group)
            declared |= {(kind, name, project["name"], project["version"]) for name in points}
    entries = read_catalogue()
    assert {(e.kind, e.name, e.distribution, e.version) for e in entries} == declared
    assert all(entry.fits and (ROOT / entry.source / "pyproject.toml").is_file() for entry in entries)


def test_the_command_for_one_of_ours_installs_what_it_needs() -> None:
    (entry, *_) = search_catalogue(read_catalogue(), ["teacher", "ANTHROPIC"])
    assert entry.make_requirements() == ["./plugins/dsrl-http", "./plugins/dsrl-anthropic"]


# --- what an entry says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "fits", "words"),
    [
        ([1, 1], True, "1 (fits)"),
        ([API_VERSION, API_VERSION + 2], True, f"{API_VERSION} to {API_VERSION + 2} (fits)"),
        ([API_VERSION + 1, API_VERSION + 1], False, "upgrade dsrl"),
    ],
)
def test_the_range_of_the_hook_api_is_compared(versions: list[int], fits: bool, words: str) -> None:
    (entry,) = parse({**ENTRY, "hook_api": versions})
    assert entry.fits is fits
    assert words in entry.describe_api()


def test_pip_gets_the_digest_of_a_file() -> None:
    (entry,) = parse({**ENTRY, "sha256": "A" * 64})
    assert entry.make_requirements() == [f"lift-task @ {ENTRY['source']}#sha256={'a' * 64}"]
    (entry,) = parse({**ENTRY, "source": "git+https://example.org/lifts", "sha256": "a" * 64})
    assert entry.make_requirements() == ["lift-task @ git+https://example.org/lifts"]


def test_what_is_installed_is_seen_without_import(install: Any) -> None:
    (entry,) = parse(ENTRY)
    assert find_status(entry) == ("not installed", "")
    install("task", "lifts", "raise SystemExit('imported')", distribution="other")
    assert find_status(entry) == ("other package", "other 1.0")
    install("task", "lifts", "raise SystemExit('imported')", distribution="Lift_Task")
    assert find_status(entry)[0] == "installed"
    (entry,) = parse({**ENTRY, "version": "2.0"})
    assert find_status(entry)[0] == "other version"


# --- bad catalogues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "virus"}, "c.json, entry 1, field `kind`: is 'virus', but must be one of task, teacher"),
        ({"kind": 3}, "field `kind`: is 3"),
        ({"name": None}, "field `name`: is None"),
        ({"name": "\x1b[2J"}, "field `name`: is '\\x1b[2J'"),
        ({"distribution": "--index-url=x"}, "field `distribution`"),
        ({"version": "1; rm -rf /"}, "field `version`"),
        ({"summary": "x" * 501}, "field `summary`: is 'xxx"),
        ({"summary": " "}, "field `summary`"),
        (
            {"source": "http://example.org/x.whl"},
            "field `source`: is 'http://example.org/x.whl', but must be an address",
        ),
        ({"source": "file:///etc/passwd"}, "field `source`"),
        ({"source": "../../x"}, "field `source`"),
        ({"source": "/etc"}, "field `source`"),
        ({"hook_api": [2, 1]}, "field `hook_api`: is a list of 2, but must be"),
        ({"hook_api": [True, 1]}, "field `hook_api`"),
        ({"hook_api": "1"}, "field `hook_api`: is '1'"),
        ({"sha256": "abc"}, "field `sha256`: is 'abc', but must be 64 hexadecimal digits"),
        ({"licence": {"a": 1}}, "field `licence`: is an object of 1"),
        ({"needs": ["-r x"]}, "field `needs`"),
        ({"sumary": "x"}, "entry 1: unknown field 'sumary'"),
    ],
)
def test_a_wrong_field_is_named_with_its_entry(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        parse({**ENTRY, **change})
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_a_missing_field_and_a_second_entry_are_named() -> None:
    with pytest.raises(DataError, match="entry 2, field `version`: is missing"):
        parse(ENTRY, {key: value for key, value in ENTRY.items() if key != "version"})
    with pytest.raises(DataError, match="entry 2: the same plugin as entry 1"):
        parse(ENTRY, {**ENTRY, "distribution": "Lift.Task"})
    with pytest.raises(DataError, match="entry 1: must be an object, but is 'x'"):
        parse("x")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "c.json:1: not JSON"),
        (b"{\n,}", "c.json:2: not JSON"),
        (b"\n\xff", "c.json:2 is not UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "too many digits"),
        (b"[]", "not a catalogue"),
        (b'{"plugins": []}', "field `catalogue` is None"),
        (b'{"catalogue": 2, "plugins": []}', "this dsrl reads form 1; upgrade dsrl"),
        (b'{"catalogue": 1, "plugins": {}}', "field `plugins` must be a list"),
        (b'{"catalogue": 1, "plugins": [' + b"0," * MOST_ENTRIES + b"0]}", "at most 10,000"),
    ],
)
def test_a_text_that_is_no_catalogue_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_catalogue(raw, "c.json")
    assert words in str(caught.value)


def test_a_summary_cannot_command_the_terminal() -> None:
    (entry,) = parse({**ENTRY, "summary": "good\x1b[2J\x07\n \u202eplugin \ud800"})
    assert entry.summary.isprintable()
    assert entry.summary.split() == ["good", "[2J", "plugin", "?"]


@given(value=JSON)
def test_any_value_is_a_catalogue_or_an_error(value: Any) -> None:
    for document in (value, {"catalogue": 1, "plugins": value}, {"catalogue": 1, "plugins": [value]}):
        try:
            parse_catalogue(json.dumps(document).encode(), "c.json")
        except DataError as error:
            assert len(str(error)) < 1000  # noqa: PT017


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(DataError, match=r"c\.json cannot be read: No such file"):
        read_catalogue(str(path))
    path.write_bytes(b" " * (LARGEST + 1))
    with pytest.raises(DataError, match="larger than 4 MiB"):
        read_catalogue(str(path))


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["http://example.org/c.json", "file:///etc/passwd", "ftp://example.org/c"])
def test_only_https_is_read(address: str) -> None:
    with pytest.raises(DataError, match="begins with https://"):
        read_catalogue(address)


class FakeHttps:
    """A fake of the handler of https: it answers with the bodies that a test gives, and knows no network."""

    def __init__(self, body: bytes, redirect: str = "") -> None:
        self.body, self.redirect = body, redirect

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from email.message import Message
        from urllib.request import HTTPSHandler
        from urllib.response import addinfourl

        def https_open(handler: Any, request: Any) -> Any:
            headers = Message()
            if self.redirect:
                headers["Location"] = self.redirect
            response = addinfourl(BytesIO(self.body), headers, request.full_url, 302 if self.redirect else 200)
            response.msg = ""  # type: ignore[attr-defined]
            return response

        monkeypatch.setattr(HTTPSHandler, "https_open", https_open)


def test_a_catalogue_is_read_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHttps(json.dumps({"catalogue": 1, "plugins": [ENTRY]}).encode()).install(monkeypatch)
    assert [entry.name for entry in read_catalogue("https://example.org/c.json")] == ["lifts"]


def test_a_download_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHttps(b" " * (LARGEST + 10)).install(monkeypatch)
    with pytest.raises(DataError, match="larger than 4 MiB"):
        read_catalogue("https://example.org/c.json")


@pytest.mark.parametrize("target", ["http://example.org/c.json", "file:///etc/passwd"])
def test_a_redirect_leads_to_https_only(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    FakeHttps(b"", redirect=target).install(monkeypatch)
    with pytest.raises(DataError, match=r"is not https|not allowed"):
        read_catalogue("https://example.org/c.json")


def test_a_server_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    never = Event()
    monkeypatch.setattr(catalogue, "TIME_LIMIT", 0.1)
    monkeypatch.setattr(catalogue, "_fetch", lambda address: never.wait(30))
    with pytest.raises(DataError, match="was not complete after"):
        read_catalogue("https://example.org/c.json")
    never.set()


def test_a_server_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(address: str) -> bytes:
        raise ConnectionRefusedError("nobody listens")

    monkeypatch.setattr(catalogue, "_fetch", fetch)
    with pytest.raises(DataError, match="cannot be loaded: nobody listens; check the address"):
        read_catalogue("https://example.org/c.json")
