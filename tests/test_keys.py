from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from dsrl.errors import SettingsError, TeacherError
from dsrl.keys import excerpt, find_key, mask, refuse_keys
from dsrl.settings import resolve

KEY = "sk-proj-planted0123456789abcdefghij"


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """The real `keyring` package over a keyring in memory, in place of the system's."""
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    kept: dict[tuple[str, str], str] = {}

    class InMemory(KeyringBackend):
        priority = 1  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            kept[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    monkeypatch.delenv("A_KEY", raising=False)
    monkeypatch.delenv("B_KEY", raising=False)
    yield kept  # type: ignore[misc]
    keyring.set_keyring(before)


def test_the_environment_comes_first(ring: dict[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    ring["svc", "A_KEY"] = "from-the-ring"
    assert find_key(["A_KEY", "B_KEY"], "svc") == "from-the-ring"
    monkeypatch.setenv("B_KEY", " second\n")
    assert find_key(["A_KEY", "B_KEY"], "svc") == "second"
    monkeypatch.setenv("A_KEY", "first")
    assert find_key(["A_KEY", "B_KEY"], "svc") == "first"


def test_no_key_says_where_to_get_one_and_where_to_put_it(ring: dict[Any, str]) -> None:
    with pytest.raises(TeacherError) as caught:
        find_key(["A_KEY"], "svc", "keys.example")
    said = str(caught.value)
    for words in ("A_KEY is not set", "create a key at keys.example", "export A_KEY=", "keyring set svc A_KEY"):
        assert words in said


def test_a_machine_without_a_keyring_is_one_without_a_key(ring: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(service: str, name: str) -> str:
        raise RuntimeError("no D-Bus")

    monkeypatch.setattr("keyring.get_password", broken)
    with pytest.raises(TeacherError, match="not set"):
        find_key(["A_KEY"], "svc")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(TeacherError, match="not set"):
        find_key(["A_KEY"], "svc")


@pytest.mark.parametrize("value", [f"{KEY} {KEY}", f"{KEY}\n{KEY}", "schlüssel", "a\x00b"[:1] + "\tb"])
def test_a_value_that_cannot_be_a_key_is_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", value)
    with pytest.raises(TeacherError, match="A_KEY holds characters that no key has") as caught:
        find_key(["A_KEY"], "svc")
    assert value not in str(caught.value)


def test_a_key_in_place_of_a_variables_name_is_not_shown() -> None:
    with pytest.raises(TeacherError, match="never the key itself") as caught:
        find_key([KEY], "svc")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"Incorrect API key provided: {KEY}.",
        "Bearer abcdefghijklmnop",
        "sk-proj-****************abcd",
        "hf_" + "a1" * 12,
    ],
)
def test_what_is_written_like_a_key_is_hidden(text: str) -> None:
    hidden = mask(text)
    assert "[key]" in hidden
    assert "abcd" not in hidden


@pytest.mark.parametrize(
    "text",
    [
        "sk-" * 100_000,
        "sk_" * 100_000 + "!",
        "Bearer " * 50_000,
        "Bearer" + " " * 300_000,
        "hf_" * 100_000 + "!",
        "a.sk-" * 60_000,
        "<title" * 50_000,
    ],
)
def test_a_long_text_takes_no_long_time(text: str) -> None:
    """Quadratic work would be minutes."""
    began = time.process_time()
    mask(text)
    excerpt(text, 500)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("key", [KEY, "hunter2/" * 30, "Bearer abcdefghijklmnop"])
@pytest.mark.parametrize("filler", ["x ", "long words without an end ", "-"])
def test_no_part_of_a_key_is_shown_wherever_the_text_is_cut(key: str, filler: str) -> None:
    for before in [0, *range(9_700, 10_050, 7)]:
        shown = excerpt((filler * 10_000)[:before] + " " + key + " " + filler * 10_000, 500, key)
        assert len(shown) <= 500
        assert key[:12] not in shown
    # Hidden keys make the text shorter, so that its end comes into sight.
    for more in range(0, len(key), 3):
        shown = excerpt("y" * more + f" {key}" * 20_000, 500, key)
        assert key[:5] not in shown.replace("[key]", "")


def test_a_text_is_cut_and_put_on_one_line() -> None:
    assert excerpt("\n\n a\tb \n c " + " " * 100_000, 5) == "a b c"
    assert excerpt("x" * 1000, 500) == "x" * 500
    assert excerpt("x" * 100_000, 500) == "x" * 500
    assert excerpt("", 500) == ""


def test_a_key_of_any_look_is_hidden_where_it_is_known() -> None:
    assert mask("you sent hunter2!", "hunter2") == "you sent [key]!"


@pytest.mark.parametrize(
    "text", ["hf-internal-testing/tiny-random-llama", "risk-averse-learning-of-tasks", "a sk-learn-model-zoo"]
)
def test_other_words_are_left_alone(text: str) -> None:
    assert mask(text) == text
    refuse_keys({"served_model": text}, "--sampler-option")


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "anything"},
        {"apikey": "x"},
        {"azure-api-key": "x"},
        {"headers": {"Authorization": "x"}},
        {"api_key_env": KEY},
        {"extra": ["a", KEY]},
        {"base_url": "https://user:word@host/v1"},
        {KEY: 1, "api_key": 2},
    ],
)
def test_an_option_that_holds_a_key_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"--teacher-option .* looks like a key.*environment variable") as caught:
        resolve({"task": "mednli", "teacher_option": options})
    assert KEY not in str(caught.value)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"api_key_env": "OPENAI_API_KEY"}, {"max_tokens": 5}, {"cache_tokens": 1}, {"base_url": "http://[::1"}]
)
def test_other_options_are_not(options: dict[str, Any]) -> None:
    resolve({"task": "mednli", "teacher_option": options})
