"""Wrong inputs are reported before a teacher is paid: after a refusal, the provider has received no request."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from model_folders import copy_tiny

from dsrl.testing.fault_server import FaultServer

pytest.importorskip("openai")
torch = pytest.importorskip("torch")

Refused = Callable[..., None]


# --- device and number format ------------------------------------------------------------------------------------------


def test_a_dtype_that_the_trainer_or_the_sampler_lacks(refused: Refused, server: FaultServer) -> None:
    refused("--dtype", "float16", words=["float16", "auto, float32 or bfloat16"], code=2)
    served = ("--sampler", "openai", "--sampler-option", f"base_url={server.url}")
    refused("--dtype", "float16", *served, words=["float16", "auto, float32 or bfloat16"], code=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_on_a_machine_without_it(refused: Refused) -> None:
    for device in ("cuda", "cuda:7"):
        refused("--device", device, words=[repr(device), "0 CUDA devices", "--device auto or cpu"], code=2)


def test_a_device_that_is_none(refused: Refused) -> None:
    for device in ("cuda:777", "gpu", "meta", "cpu:0:0"):
        refused("--device", device, words=[repr(device), "use --device auto"], code=2)


def test_a_device_is_for_the_trainer_where_the_sampler_has_none(
    dsrl: Any, server: FaultServer, command: Sequence[str]
) -> None:
    """The server of a base model chooses its device; ``--device`` is allowed all the same."""
    server.any_model = True
    served = ("--sampler", "openai", "--sampler-option", f"base_url={server.url}", "--device", "cpu")
    outcome = dsrl(*command, *served, "--stop-after", "scored")
    assert outcome.code == 0, outcome.err


# --- the base model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", b"{", ["holds no model that can be read"]),
        ("config.json", b'{"model_type": "no-such-thing"}', ["no-such-thing"]),
        ("config.json", b'{"model_type": "vit"}', ["'vit'", "causal language model"]),
        ("tokenizer.json", b"{", ["holds no tokenizer that can be read"]),
        ("tokenizer.json", None, ["holds no tokenizer that can be read"]),
        ("model.safetensors", b"\x00" * 64, ["model.safetensors", "fetch the model again"]),
        ("model.safetensors", b"\xff" * 64, ["model.safetensors", "fetch the model again"]),
        ("model.safetensors", b"", ["model.safetensors", "fetch the model again"]),
    ],
)
def test_a_file_of_the_model_is_broken(
    refused: Refused, file: str, content: bytes | None, words: Sequence[str]
) -> None:
    folder = copy_tiny(Path("model"))
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    refused("--base-model", "model", words=words)


def test_weights_that_were_cut_off(refused: Refused) -> None:
    weights = copy_tiny(Path("model")) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused("--base-model", "model", words=["model.safetensors", "fetch the model again"])


def test_weights_that_are_not_there(refused: Refused) -> None:
    folder = copy_tiny(Path("model"), without="model.safetensors")
    refused("--base-model", "model", words=["holds a config.json but no weights"])
    (folder / "adapter.safetensors").write_bytes(b"x")
    refused("--base-model", "model", words=["model.safetensors is not there"])
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    refused("--base-model", "model", words=["model-00001-of-00002.safetensors, which is not there"])
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    refused("--base-model", "model", words=["must name files of its own folder"])
    index.write_text("[" * 100_000)
    refused("--base-model", "model", words=["index.json cannot be read"])


def test_code_in_a_model_is_not_run_and_nobody_is_asked_whether_to(refused: Refused) -> None:
    folder = copy_tiny(Path("model"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "stranger", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    refused("--base-model", "model", words=["holds no model that can be read"])


def test_a_context_that_training_answers_fill(refused: Refused) -> None:
    words = ["--max-completion-tokens 100000", "give a smaller number"]
    refused("--max-completion-tokens", 100000, words=words, code=2)


class RefusingHub(BaseHTTPRequestHandler):
    """A fake hub that gives nobody a model."""

    status = 404
    headers_sent: tuple[tuple[str, str], ...] = ()

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        for name, value in self.headers_sent:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 - as the library names it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library names it
        """Log nothing."""


@contextmanager
def fake_hub(status: int, error: str = "") -> Iterator[str]:
    headers = (("X-Error-Code", error), ("X-Error-Message", "no model for you")) if error else ()
    handler = type("Handler", (RefusingHub,), {"status": status, "headers_sent": headers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{hub.server_address[1]}"
        hub.shutdown()


def in_a_process(
    command: Sequence[str], folder: Path, endpoint: str = "", before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run in a new process, because the hub's library reads the environment once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {"HF_HOME": str(folder / "hf")}
    environment |= {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    code = f"{before}\nfrom dsrl.cli import main\nmain()"
    words = [sys.executable, "-c", code, *command, "--base-model", "owner/missing"]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
def test_a_hub_id_that_is_not_in_the_cache(command: Sequence[str], server: FaultServer, tmp_path: Path) -> None:
    done = in_a_process(command, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "owner/missing is not in the cache" in done.stderr
    assert "HF_HUB_OFFLINE" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, "", ["owner/missing", "--base-model"]),
        (404, "RepoNotFound", ["has no model owner/missing", "check the name", "--base-model"]),
        (401, "RepoNotFound", ["has no model owner/missing", "private", "hf auth login"]),
        (401, "GatedRepo", ["owner/missing is gated", "request access", "hf auth login"]),
        (403, "GatedRepo", ["owner/missing is gated", "request access", "hf auth login"]),
        (403, "", ["owner/missing failed", "403", "--base-model"]),
    ],
)
def test_a_hub_id_that_the_hub_does_not_give(
    command: Sequence[str], server: FaultServer, tmp_path: Path, status: int, error: str, words: Sequence[str]
) -> None:
    with fake_hub(status, error) as address:
        done = in_a_process(command, tmp_path, address)
    assert done.returncode == 1, done.stderr
    sentence = " ".join(done.stderr.rpartition("Error: ")[2].split())
    assert [word for word in words if word not in sentence] == [], sentence
    assert "Traceback" not in done.stderr
    assert server.requests == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_machine_without_a_network(command: Sequence[str], server: FaultServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = in_a_process(command, tmp_path, closed)
    assert done.returncode == 1, done.stderr
    assert f"the request to the hub ({closed}) for the model owner/missing failed" in done.stderr
    assert "check the connection" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.requests == []


@pytest.mark.slow
def test_a_hub_that_does_not_answer(command: Sequence[str], server: FaultServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hurry = "import dsrl_transformers.model_files as files; files.HUB_SECONDS = 2.0"
        done = in_a_process(command, tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", hurry)
    assert done.returncode == 1, done.stderr
    assert "owner/missing" in done.stderr
    assert "check the connection" in done.stderr
    assert server.requests == []


# --- the folder for the trained model ----------------------------------------------------------------------------------


def test_an_output_folder_that_cannot_be_used(refused: Refused, tmp_path: Path) -> None:
    Path("taken").mkdir()
    Path("taken/file").write_text("x")
    Path("plain").write_text("x")
    Path("link").symlink_to("taken", target_is_directory=True)
    Path("empty").mkdir()
    Path("empty-link").symlink_to("empty", target_is_directory=True)
    refused("--output-model", "taken", words=["taken, is not empty", "--output-model"])
    refused("--output-model", "link", words=["link, is not empty"])
    refused("--output-model", "empty-link", words=["empty-link, is a symbolic link"])
    refused("--output-model", "plain", words=["plain is a file"])
    refused("--output-model", "plain/model", words=["plain cannot be a folder", "is a file", "--output-model"])
    refused("--output-model", "/proc/none/model", words=["/proc/none", "cannot be written", "--output-model"])
    for inside in ("runs/checked", "runs/checked/rounds", "runs", ".dsrl/models"):
        refused("--output-model", inside, words=[inside, "overlaps with", "name another folder"], code=2)
    assert Path("taken/file").read_text() == "x"


def test_another_output_folder_can_be_named_until_training_is_done(
    dsrl: Any, server: FaultServer, command: Sequence[str]
) -> None:
    assert dsrl(*command, "--output-model", "first", "--stop-after", "scored").code == 0
    paid = len(server.requests)
    Path("first").mkdir()
    Path("first/file").write_text("x")
    outcome = dsrl(*command, "--output-model", "first")
    assert (outcome.code, "first, is not empty" in outcome.err) == (1, True), outcome.err
    outcome = dsrl(*command, "--output-model", "second", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["model_path"] == "second"
    assert Path("second/config.json").is_file()
    assert len(server.requests) == paid, "nothing is paid for twice"
    assert dsrl(*command, "--output-model", "second").code == 0, "a run that is done does not mind its own model"
    for flags, words in ((["--output-model", "third"], "give --output-model second again"), ([], "second again")):
        outcome = dsrl(*command, *flags)
        assert outcome.code == 2, outcome.err
        assert words in outcome.err


def test_the_output_folder_is_no_part_of_the_name(dsrl: Any) -> None:
    names = [
        json.loads(dsrl("plan", "--task", "mednli", *flags, "--json").out)["run"]
        for flags in ([], ["--output-model", "x"])
    ]
    assert names[0] == names[1]


# --- data --------------------------------------------------------------------------------------------------------------


def test_a_data_set_that_cannot_be_evaluated_on(refused: Refused, tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_dict({"Input": ["a"], "Output": ["b"]})
    datasets.DatasetDict({"train": one}).save_to_disk("split")
    refused("--dataset-path", "split", words=["no split 'test'", "train"])
    Path("gold.jsonl").write_text('{"input": "a", "output": "perhaps"}\n')
    refused("--dataset-path", "gold.jsonl", words=["item 1", "gold.jsonl", "perhaps"])
    refused("--dataset-path", "gone.jsonl", words=["gone.jsonl does not exist"])
    Path("empty.jsonl").write_text("")
    refused("--dataset-path", "empty.jsonl", words=["empty.jsonl"])


def test_a_data_set_is_loaded_once_a_command_and_not_where_it_is_not_needed(
    dsrl: Any, server: FaultServer, command: Sequence[str]
) -> None:
    Path("count.py").write_text(
        "from dsrl import hookimpl\nfrom dsrl.types import Example\n\n@hookimpl\ndef load_dataset(path, split):\n"
        "    open('loaded', 'a').write('x')\n    return [Example('a', '<answer> neutral </answer>')]\n"
    )
    flags = (*command, "--override", "count.py", "--no-decontaminate")
    assert dsrl(*flags, "--stop-after", "scored").code == 0
    assert not Path("loaded").exists()
    assert dsrl(*flags).code == 0
    assert Path("loaded").read_text() == "x"
    assert dsrl(*flags).code == 0
    assert Path("loaded").read_text() == "xx", "it may have been edited"


# --- plugins, folders, room --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "option", "words"),
    [
        ("--sampler-option", "cash_tokens=1", ["no option cash_tokens", "cache_tokens"]),
        ("--sampler-option", "cache_tokens=many", ["--sampler-option cache_tokens=many", "whole number"]),
        ("--sampler-option", "cache_tokens=0", ["cache_tokens=0", "at least 1"]),
        ("--trainer-option", "batch_tokens=-1", ["--trainer-option batch_tokens=-1", "at least 0"]),
        ("--trainer-option", "batch_tokens=nan", ["batch_tokens=nan", "whole number"]),
        ("--trainer-option", "checkpoint_seconds=soon", ["checkpoint_seconds=soon", "seconds"]),
        ("--trainer-option", "learning=1", ["no option learning", "checkpoint_seconds"]),
    ],
)
def test_options_of_sampler_and_trainer(refused: Refused, flag: str, option: str, words: Sequence[str]) -> None:
    refused(flag, option, words=words, code=2)


def test_a_server_of_the_base_model(
    refused: Refused, server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served = ("--sampler", "openai", "--sampler-option")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    refused(*served, f"base_url={closed}", words=["no server can be reached", closed])
    keyed = (*served, f"base_url={server.url}", "--sampler-option", "api_key_env=SAMPLER_KEY")
    refused(*keyed, words=["SAMPLER_KEY is not set"])


def test_folders_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    Path("plain").write_text("x")
    refused("--runs-dir", "plain", words=["plain/checked", "plain is a file", "--runs-dir"])
    refused("--runs-dir", "/proc/none", words=["/proc/none", "cannot be written", "--runs-dir"])
    refused("--cache-dir", "plain/cache", words=["plain/cache", "plain is a file", "--cache-dir"])


def test_no_room_on_a_faked_disk(refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The free space of each folder is faked."""
    free = 10**12

    def fake_disk_usage(path: object) -> Any:
        return SimpleNamespace(total=10**12, used=0, free=free)

    monkeypatch.setattr(shutil, "disk_usage", fake_disk_usage)
    free = 1000
    refused(words=["no room on the disk", "runs/checked", "1.0 kB is free", "free some"])
    free = 10**6
    refused(words=["no room on the disk", "the trained model takes at least", "1.0 MB is free"])
    weights = copy_tiny(Path("model")).joinpath("model.safetensors").stat().st_size
    free = 2 * weights
    refused("--base-model", "model", words=["no room on the disk", "checkpoint", "is free"])


def test_what_is_not_reached_is_not_checked(dsrl: Any, server: FaultServer, command: Sequence[str]) -> None:
    wrong = ("--dtype", "float16", "--output-model", "taken")
    Path("taken").mkdir()
    Path("taken/file").write_text("x")
    assert dsrl(*command, *wrong, "--stop-after", "verified").code == 0
    paid = len(server.requests)
    outcome = dsrl(*command, *wrong)
    assert outcome.code == 1
    assert len(server.requests) == paid
