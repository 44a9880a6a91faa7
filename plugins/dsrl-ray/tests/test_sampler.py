"""The real Ray: two node processes on one machine, of which one is killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dsrl_ray.connection import leave_out_dashboard
from dsrl_ray.pool import WorkerPool
from dsrl_ray.sampler import RaySampler
from dsrl_ray.session import RaySession

import dsrl
from dsrl import DataError, DsrlError, PluginRef, Prompt, SettingsError, load
from dsrl.plugins.base_models import resolve_model
from dsrl.storage.run_store import RunStore
from dsrl.types import Score

from .conftest import needs_ray

pytestmark = [needs_ray, pytest.mark.slow]
SETTINGS: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 48, "seed": 3, "first": 0, "adapter": None}
#: A dead node is noticed after three seconds instead of half a minute.
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_USAGE_STATS_ENABLED": "0",
}
#: A variable by which the processes of these tests are known.
MARK = "DSRL_RAY_TESTS"
MODEL = resolve_model("tiny").location


def start_patiently(start: Callable[[], Any]) -> Any:
    """Start a part of a cluster: Ray gives up after 30 seconds, which a busy machine needs for more than one."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            return start()
    return start()


def list_processes() -> list[str]:
    """List the processes that these tests have started and that still run: Ray's, which leave the family of this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={os.getpid()}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:80])
    return found


def read_variables() -> dict[str, str]:
    """Return the variables of this process that decide on Ray."""
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(HEALTH, **{MARK: str(os.getpid())})
    leave_out_dashboard()
    head = {"num_cpus": 1, "object_store_memory": 150 * 2**20, "include_dashboard": False}
    cluster = start_patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)
    deadline = time.monotonic() + 30
    while list_processes():
        assert time.monotonic() < deadline, f"these are left: {list_processes()}"
        time.sleep(0.2)


@pytest.fixture
def second_node(cluster: Any) -> Iterator[Any]:
    node = start_patiently(lambda: cluster.add_node(num_cpus=1, object_store_memory=150 * 2**20))
    cluster.wait_for_nodes()
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    task = load(PluginRef("task", "gsm8k"), "task")
    samples = [task.hook.procedural_sample(seed=seed, difficulty=1, passage="") for seed in range(60)]
    texts = [f"{sample.input}\n\n{task.hook.output_instruction()}" for sample in samples]
    return [Prompt(text) for text in [*texts, texts[0]]]


def sample(sampler: RaySampler, prompts: list[Prompt], n: int = 2, **settings: Any) -> list[list[str]]:
    async def work() -> list[list[str]]:
        try:
            return await sampler.sample(prompts, n, **{**SETTINGS, **settings})
        finally:
            await sampler.aclose()

    return asyncio.run(work())


def make(cluster: Any, **options: Any) -> RaySampler:
    return RaySampler(**{"model": MODEL, "ray_address": cluster.address, "chunk": 4, "device": "cpu", **options})


@pytest.fixture(scope="module")
def expected(prompts: list[Prompt]) -> list[list[str]]:
    """The texts of the same chunks in this process, without Ray."""
    from dsrl_ray.chunks import make_chunks

    plain = load(PluginRef("sampler", "transformers", {"model": MODEL, "device": "cpu"}), "sampler")

    async def work() -> list[list[str]]:
        texts: list[list[str]] = [[] for _ in prompts]
        for places in make_chunks(prompts, 2, 4):
            rows = await plain.hook.sample(prompts=[prompts[place] for place in places], n=2, **SETTINGS)
            for place, row in zip(places, rows, strict=True):
                texts[place] = list(row)
        await plain.hook.aclose()
        return texts

    return asyncio.run(work())


def test_a_node_killed_in_the_middle_loses_nothing(
    cluster: Any, second_node: Any, prompts: list[Prompt], expected: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    sampler = make(cluster)
    sampler.check(prompts[:2], 48)

    async def work() -> list[list[str]]:
        call = asyncio.create_task(sampler.sample(prompts, 2, **SETTINGS))
        while sampler._pool is None or not all(place.node for place in sampler._pool._places):
            await asyncio.sleep(0.05)
        assert len(sampler._pool._places) == 2
        cluster.remove_node(second_node, allow_graceful=False)
        texts = await call
        assert 1 <= sampler._pool.repeated <= 2, "only what the dead worker had"
        await sampler.aclose()
        return texts

    assert asyncio.run(work()) == expected
    assert "A worker on the node" in caplog.text
    assert "chunks were computed again" in caplog.text
    assert expected[0] != expected[-1], "a prompt that is given twice gets other attempts"


def test_a_run_selects_the_same_samples_with_a_node_killed_while_it_scores(
    cluster: Any, second_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[WorkerPool] = []
    start = WorkerPool.start
    monkeypatch.setattr(WorkerPool, "start", lambda pool: (pools.append(pool), start(pool)))

    def kill_node() -> None:
        while not pools or not all(place.node for place in pools[0]._places):
            time.sleep(0.05)
        cluster.remove_node(second_node, allow_graceful=False)

    def run(name: str) -> tuple[dict[str, Score], list[str]]:
        dsrl.run(
            name=name,
            task=["mednli"],
            samples=60,
            attempts=32,
            attempt_confidence=0.0,  # all in one call, long enough to be killed in
            select=20,
            sampler="ray",
            sampler_option={"ray_address": cluster.address, "chunk": 4},
            device="cpu",
            stop_after="selected",
            runs_dir=tmp_path,
            cache_dir=tmp_path / "cache",
            progress="none",
        )
        store = RunStore(tmp_path / name)
        scores, selected = store.scores(1), store.selected(1)
        store.close()
        return scores, selected

    killer = threading.Thread(target=kill_node, daemon=True)
    killer.start()
    disturbed = run("disturbed")
    killer.join()
    assert len(pools[0]._places) == 2
    assert pools[0].repeated >= 1
    assert run("quiet") == disturbed
    assert len(pools[1]._places) == 1
    assert len(disturbed[1]) == 20


def test_a_killed_worker_is_replaced(cluster: Any, prompts: list[Prompt], expected: list[list[str]]) -> None:
    import psutil

    sampler = make(cluster)

    async def work() -> list[list[str]]:
        call = asyncio.create_task(sampler.sample(prompts, 2, **SETTINGS))
        while sampler._pool is None or not sampler._pool._places[0].node:
            await asyncio.sleep(0.05)
        try:
            for process in psutil.process_iter(["cmdline"]):  # one of a node that is dead may still be there
                if "ray::SamplerWorker" in " ".join(process.info["cmdline"] or []):
                    process.send_signal(signal.SIGKILL)
            texts = await call
            assert sampler._pool.repeated >= 1
        finally:
            await sampler.aclose()
        return texts

    assert asyncio.run(work()) == expected


def test_one_chunk_is_exactly_the_plain_sampler(cluster: Any, prompts: list[Prompt]) -> None:
    plain = load(PluginRef("sampler", "transformers", {"model": MODEL, "device": "cpu"}), "sampler")

    async def work() -> list[list[str]]:
        texts = await plain.hook.sample(prompts=prompts, n=3, **SETTINGS)
        await plain.hook.aclose()
        return [list(row) for row in texts]

    assert sample(make(cluster, chunk=100), prompts, 3) == asyncio.run(work())


def test_an_error_of_a_worker_is_a_sentence_with_its_node(cluster: Any, prompts: list[Prompt], tmp_path: Path) -> None:
    sampler = make(cluster, model=str(tmp_path / "nowhere"))
    with pytest.raises(DsrlError, match=r"any node of the Ray cluster.*nowhere"):
        sampler.check(prompts[:1], 8)
    with pytest.raises(DataError, match="nowhere") as error:
        sample(sampler, prompts[:1])
    assert "of the Ray cluster" in error.value.__notes__[0]
    with pytest.raises(DataError, match="does not exist"):
        sample(make(cluster), prompts[:1], adapter=tmp_path / "nowhere")


def test_a_cluster_that_is_too_small(cluster: Any, prompts: list[Prompt]) -> None:
    with pytest.raises(SettingsError, match=r"needs 1 GPUs and 1 CPUs of one node.*1 CPUs and 0 GPUs"):
        make(cluster, gpus=1).check(prompts[:1], 8)
    with pytest.raises(SettingsError, match=r"actors=3.*room for 1"):
        make(cluster, actors=3).check(prompts[:1], 8)


def test_a_ray_of_this_machine_beside_another_one(
    cluster: Any, prompts: list[Prompt], expected: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an address, a cluster that runs on this machine is left alone, and so are the user's home and variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    before, variables = signal.getsignal(signal.SIGTERM), read_variables()
    sampler = make(cluster, ray_address="", actors=1)
    sampler.check(prompts[:2], 48)
    # A run has an event loop for each of its parts, and the threads of the first one end with it.
    first = asyncio.run(sampler.sample(prompts[:4], 2, **SETTINGS))
    time.sleep(2)
    import ray

    assert [node["Alive"] for node in ray.nodes()] == [True], "it does not end with the first event loop"
    assert sample(sampler, prompts[:8]) == expected[:8]
    assert first == expected[:4]
    assert signal.getsignal(signal.SIGTERM) == before
    assert read_variables() == variables
    assert not (tmp_path / ".ray").exists(), "no token that the next cluster would ask for"
    assert cluster.head_node.remaining_processes_alive(), "the cluster still works"


def test_a_ray_of_this_machine_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray's own limits on the start of its parts are too short for a busy machine."""
    import ray

    folders: list[Path] = []

    def fail(**settings: Any) -> None:
        folders.append(Path(settings["_temp_dir"]))
        assert folders[-1].is_dir()
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(DsrlError, match="a Ray of this machine cannot start: The current node timed out"):
        RaySession("", 0)
    assert len(set(folders)) == 3
    assert not any(folder.exists() for folder in folders)
    assert caplog.text.count("is started again") == 2


def test_a_program_that_is_connected_already(cluster: Any, prompts: list[Prompt], expected: list[list[str]]) -> None:
    import ray

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        port = cluster.address.rpartition(":")[2]
        for address in ("", "auto", cluster.address, f"localhost:{port}"):
            RaySession(address, 0).close()
        for address in ("192.0.2.1:6379", "127.0.0.1:1", "localhost:6378"):
            with pytest.raises(
                SettingsError, match=f"connected to the Ray cluster at {cluster.address} already.*{address}"
            ):
                RaySession(address, 0)
        assert sample(make(cluster), prompts[:4]) == expected[:4]
        assert ray.is_initialized(), "the connection of the program stays"
    finally:
        ray.shutdown()


def test_an_address_that_does_not_answer(prompts: list[Prompt]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    sampler = RaySampler(model=MODEL, ray_address=address)
    for use in (lambda: sampler.check(prompts[:1], 8), lambda: sample(sampler, prompts[:1])):
        with pytest.raises(SettingsError, match=f"nothing answers at the Ray address {address}"):
            use()
