from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dsrl.errors import SettingsError, TeacherError
from dsrl.plugins.binding import load
from dsrl.testing.fault_server import Fault, FaultServer, openai_error
from dsrl.types import PluginRef, Prompt

PROMPTS = [Prompt("one"), Prompt("two"), Prompt("three")]
SETTINGS: dict[str, Any] = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 8, "seed": 5}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Remove the pauses between tries, and return the seconds of each."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("dsrl_openai.sampler.asyncio.sleep", counted)
    return waited


def bound(server: FaultServer, model: str = "gpt-4o", **options: Any) -> Any:
    return load(PluginRef("sampler", "openai", {"model": model, "base_url": server.url, **options}), "sampler").hook


def sample(server: FaultServer, prompts: list[Prompt] = PROMPTS, n: int = 4, first: int = 0, **options: Any) -> Any:
    async def work() -> Any:
        hook = bound(server, **options)
        try:
            return await hook.sample(prompts=prompts, n=n, first=first, **SETTINGS)
        finally:
            await hook.aclose()

    return asyncio.run(work())


def test_a_prompt_is_one_request(server: FaultServer) -> None:
    completions = sample(server)
    assert [len(texts) for texts in completions] == [4, 4, 4]
    by_prompt = {body["prompt"]: body for body in server.bodies}
    assert set(by_prompt) == set(PROMPTS)
    expected = {
        "model": "gpt-4o",
        "prompt": "one",
        "n": 4,
        "seed": by_prompt["one"]["seed"],
        "temperature": 0.7,
        "top_p": 1.0,
        "max_tokens": 8,
    }
    assert by_prompt["one"] == expected
    assert len({body["seed"] for body in server.bodies}) == 3


def test_later_attempts_have_other_seeds(server: FaultServer) -> None:
    sample(server, prompts=[Prompt("x")], first=4)
    sample(server, prompts=[Prompt("y"), Prompt("x")], first=8)
    seeds = [body["seed"] for body in server.bodies if body["prompt"] == "x"]
    assert seeds[1] - seeds[0] == 4, "the seed depends on the prompt and the number of the attempt, not on the place"


def test_a_prompt_that_is_given_twice_has_other_attempts(server: FaultServer) -> None:
    sample(server, prompts=[Prompt("x"), Prompt("x")])
    first, second = [body["seed"] for body in server.bodies]
    assert abs(first - second) >= 4


def test_a_server_that_ignores_n_is_asked_for_each(server: FaultServer) -> None:
    server.ignores_n = True
    completions = sample(server)
    assert [len(set(texts)) for texts in completions] == [4, 4, 4]
    seeds = [body["seed"] for body in server.bodies if body["prompt"] == "two"]
    assert len(set(seeds)) == len(seeds) == 4, "the same seed would give the same text"


def test_a_server_that_refuses_n_is_asked_for_each(server: FaultServer) -> None:
    body = openai_error("Only one completion choice is allowed")
    server.refuses = lambda sent: Fault(400, body) if "n" in sent else None
    assert [len(set(texts)) for texts in sample(server)] == [4, 4, 4]


def test_it_can_be_called_many_times_and_at_once(server: FaultServer) -> None:
    hook = bound(server, served_model="folder=gpt-4o-mini", model="/a/folder")

    async def work() -> None:
        await asyncio.gather(*(hook.sample(prompts=[Prompt("x")], n=1, **SETTINGS) for _ in range(3)))

    asyncio.run(work())
    asyncio.run(work())
    assert [body["model"] for body in server.bodies] == ["gpt-4o-mini"] * 6


def test_nothing_to_sample_asks_nothing(server: FaultServer) -> None:
    assert sample(server, prompts=[]) == []
    assert server.requests == []


def test_faults_are_repeated(server: FaultServer, pauses: list[float]) -> None:
    server.faults.extend([Fault(500, "x"), Fault(429, "y", {"Retry-After": "9"}), Fault(body={"choices": []})])
    assert len(sample(server, prompts=[Prompt("x")])[0]) == 4
    assert len(pauses) == 3
    assert pauses[1] == 9.0


def test_it_gives_up(server: FaultServer, pauses: list[float]) -> None:
    server.faults.extend([Fault(500, "boom")] * 7)
    with pytest.raises(TeacherError, match=r"failed 7 times in a row: .* 500: boom"):
        sample(server, prompts=[Prompt("x")])


def test_a_long_wait_is_logged_once_and_an_endless_one_ends_the_run(
    server: FaultServer, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    slow = Fault(429, openai_error("slow down"), {"Retry-After": "600"})
    server.faults.extend([slow] * 3)
    assert len(sample(server)) == 3
    assert pauses == [600.0] * 3
    (line,) = [record.getMessage() for record in caplog.records if "waits" in record.getMessage()]
    assert "600 s" in line
    assert "slow down" in line
    pauses.clear()
    server.faults.extend([slow] * 9)
    with pytest.raises(TeacherError, match=r"to wait 600 s, which is too long: .*slow down"):
        sample(server, prompts=[Prompt("x")])
    assert len(pauses) == 3, "half an hour in all"
    server.faults.clear()
    server.faults.append(Fault(429, openai_error("slow down"), {"Retry-After": "900000000"}))
    pauses.clear()
    with pytest.raises(TeacherError, match=r"to wait 900000000 s, which is too long: .*slow down"):
        sample(server, prompts=[Prompt("x")])
    assert pauses == []


def test_a_prompt_that_is_too_long_has_empty_completions(server: FaultServer) -> None:
    server.faults.append(Fault(400, openai_error("maximum context length is 16 tokens")))
    assert sample(server, prompts=[Prompt("x")], n=2) == [["", ""]]


def test_an_unknown_model_brings_the_nearest_names(server: FaultServer) -> None:
    with pytest.raises(TeacherError, match=r"no model 'gpt4' .*; available models include gpt-4o.*served_model"):
        sample(server, model="gpt4")


def test_another_name_is_for_one_model_only(server: FaultServer) -> None:
    with pytest.raises(TeacherError, match="no model 'runs/a/model'"):
        sample(server, model="runs/a/model", served_model="tiny=gpt-4o")
    assert len(sample(server, model="gpt-4o", served_model="tiny=other")) == 3
    with pytest.raises(SettingsError, match="MODEL=NAME"):
        bound(server, served_model="gpt-4o")


def test_the_check_asks_for_the_list_of_models_only(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    bound(server).check()
    assert server.requests == []
    assert caplog.text == ""
    bound(server, "tiny").check()
    assert "not tiny" in caplog.text
    assert "served_model=MODEL=NAME" in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        Fault(404, "<html><title>nothing here</title></html>"),
        Fault(405),
        Fault(200, "<html></html>"),
        Fault(200, {"data": "none"}),
        Fault(500),
        Fault(403, {"error": {"message": "not for you"}}),
        Fault(401, {"error": {"message": "You have insufficient permissions. Missing scopes: api.model.read"}}),
        Fault(200, how="half", body={"data": []}),
    ],
)
def test_a_server_without_a_list_passes_the_check(server: FaultServer, fault: Fault) -> None:
    server.batch_faults["models"].append(fault)
    bound(server).check()


def test_a_list_that_never_comes_passes_the_check(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsrl_openai.sampler.CHECK_SECONDS", 0.3)
    server.batch_faults["models"].append(Fault(how="hang"))
    bound(server).check()


def test_the_check_refuses_a_key_or_an_address(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLER_KEY", "wrong")
    server.batch_faults["models"].append(Fault(401, {"error": {"message": "Incorrect API key provided"}}))
    with pytest.raises(TeacherError, match="rejected the key in SAMPLER_KEY"):
        bound(server, api_key_env="SAMPLER_KEY").check()
    hook = bound(server)
    server.stop()
    with pytest.raises(TeacherError, match="no server can be reached"):
        hook.check()


def test_a_chat_prompt_goes_to_the_chat_completions(server: FaultServer) -> None:
    (texts,) = sample(server, [Prompt("hi", "be short", is_chat=True)], n=2)
    assert len(texts) == 2
    assert all(texts)
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]
    assert [body["messages"] for body in server.bodies] == [messages]
    assert "prompt" not in server.bodies[0]


def test_a_plain_prompt_with_a_system_text_is_one_text(server: FaultServer) -> None:
    sample(server, [Prompt("hi", "be short")], n=1)
    assert server.bodies[0]["prompt"] == "be short\n\nhi"


def test_a_server_says_by_an_answer_whether_it_has_a_chat_template(server: FaultServer) -> None:
    assert bound(server).has_chat_template(system="")
    assert server.bodies[-1]["max_tokens"] == 1
    server.faults.append(Fault(400, openai_error("the tokenizer has no chat template")))
    assert not bound(server).has_chat_template(system="")
