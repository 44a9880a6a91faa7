"""Claim: on one server, the teacher `openai` behind the ledger costs less than the peers, and an edited row one request.

    python -m venv curator && curator/bin/pip install bespokelabs-curator==0.1.31
    python -m venv designer && designer/bin/pip install data-designer==0.9.6
    python -m venv distilabel && distilabel/bin/pip install 'distilabel[openai]==1.5.3' requests
    python benchmarks/peers.py --curator-python curator/bin/python --data-designer-python designer/bin/python \\
        --distilabel-python distilabel/bin/python [--requests 2000] [--in-flight 64] [--latency 0.1] [--rounds 3]

Needs `dsrl-openai`. The server of `ledger.py`; every client in a process of its own, one after the other. Measured:

1. ``--requests`` requests: wall and CPU seconds (this process and those that it started) of the one call that generates,
   after a call of ``--in-flight`` other rows that isn't counted. So imports, the making of the client and what it sends to
   try the server out don't count; what the library does on every call (files, cache, processes, profile) does. Median of
   the rounds, and wall over that of a bare aiohttp loop.
2. 500 rows where the server refuses every hundredth request with 429 and ``Retry-After: 1``: wall time of the call, rows
   answered, and requests that the server got in all, those for trying it out among them.
3. 500 rows with the library's cache, in a new process each time: as they are, the same again, with the last row edited,
   and with another system prompt. Requests of each; "stale" where what was changed was not sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Takes a name for the dataset and its rows, asks the model each, gives the rows that were answered.
Generate = Callable[[str, list[str]], list[str]]
#: What each client is called in the tables.
TITLES = {
    "bare": "bare aiohttp",
    "dsrl": "dsrl, ledger",
    "curator": "curator",
    "data_designer": "data-designer",
    "distilabel": "distilabel, pipeline",
    "distilabel_llm": "distilabel, its LLM alone",
}
#: Nothing but the loopback is there to be reached, and nothing is to be told to anybody.
ENVIRONMENT = {
    "OPENAI_API_KEY": "none",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TELEMETRY_ENABLED": "false",
    "NEMO_TELEMETRY_ENABLED": "false",
    "DISTILABEL_LOG_LEVEL": "WARNING",
}
HIGH = 10**9
ROWS = 500


def bare(job: dict[str, Any]) -> Generate:
    """Post with aiohttp and read the answer, with the workers of `ledger.py`."""
    import aiohttp
    from ledger import timed

    def generate(name: str, rows: list[str]) -> list[str]:
        async def run() -> None:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

                async def ask(text: str) -> None:
                    messages = [{"role": "system", "content": job["system"]}, {"role": "user", "content": text}]
                    body = {"model": "m", "messages": messages, "max_tokens": 256, "temperature": 0.7}
                    async with session.post(f"{job['url']}/chat/completions", json=body) as response:
                        await response.json()

                left: Iterator[str] = iter(rows)
                await timed(len(rows), job["in_flight"], lambda _: ask(next(left)), "")

        asyncio.run(run())
        return rows

    return generate


def dsrl(job: dict[str, Any]) -> Generate:
    """Ask our teacher `openai` through a ledger with a budget; its gate lets so many through at once."""
    import ledger

    from dsrl.teaching.ledger import CallPolicy, Ledger
    from dsrl.types import Price

    ledger.SYSTEM = job["system"]

    def generate(name: str, rows: list[str]) -> list[str]:
        async def run() -> None:
            policy = CallPolicy(job["in_flight"], budget=1e6, prices={"m": Price(1.0, 2.0)})
            book = Ledger(ledger.teacher(job["url"]), Path(f"{name}.db"), "run", policy)
            left: Iterator[str] = iter(rows)
            at_once = 3 * job["in_flight"]  # as from the road
            await ledger.timed(len(rows), at_once, lambda _: book.complete(ledger.question(next(left))), "")
            await book.close()

        asyncio.run(run())
        return rows

    return generate


def curator(job: dict[str, Any]) -> Generate:
    """``curator.LLM`` with its backend `openai`: 64 requests at once, limits a minute that never bind.

    Its display is rich's, as it comes: with tqdm's it takes a fifth longer.
    """
    import litellm.litellm_core_utils.default_encoding  # noqa: F401  its tokenizer, lest curator fetch one
    from bespokelabs import curator as library

    class Ask(library.LLM):  # type: ignore[misc]
        def prompt(self, input: dict[str, str]) -> str:
            return input["question"]

        def parse(self, input: dict[str, str], response: str) -> dict[str, str]:
            return {"question": input["question"], "answer": response}

    llm = Ask(
        model_name="m",
        backend="openai",
        system_prompt=job["system"],
        generation_params={"temperature": 0.7, "max_tokens": 256},
        backend_params={
            "base_url": job["url"],
            "max_concurrent_requests": job["in_flight"],
            "max_requests_per_minute": HIGH,
            "max_tokens_per_minute": HIGH,
        },
    )
    return lambda name, rows: llm([{"question": row} for row in rows]).dataset["question"]


def data_designer(job: dict[str, Any]) -> Generate:
    """``DataDesigner.create``: one text column over a seed file, 64 parallel requests, no probe of the model.

    ``resume=IF_POSSIBLE`` is what it has of a cache; without it every run asks everything anew.
    """
    import data_designer.config as dd
    import pandas
    from data_designer.config.run_config import ResumeMode
    from data_designer.interface import DataDesigner

    provider = dd.ModelProvider(name="local", endpoint=job["url"], provider_type="openai", api_key="none")
    parameters = dd.ChatCompletionInferenceParams(
        temperature=0.7, max_tokens=256, max_parallel_requests=job["in_flight"]
    )
    model = dd.ModelConfig(
        alias="m", model="m", provider="local", inference_parameters=parameters, skip_health_check=True
    )
    column = dd.LLMTextColumnConfig(
        name="answer", prompt="{{ question }}", system_prompt=job["system"], model_alias="m"
    )
    Path("artifacts").mkdir(exist_ok=True)
    designer = DataDesigner(artifact_path="artifacts", model_providers=[provider])

    def generate(name: str, rows: list[str]) -> list[str]:
        seed = dd.LocalFileSeedSource.from_dataframe(pandas.DataFrame({"question": rows}), f"{name}.parquet")
        builder = dd.DataDesignerConfigBuilder(model_configs=[model])
        builder.with_seed_dataset(seed)
        builder.add_column(column)
        done = designer.create(builder, num_records=len(rows), dataset_name=name, resume=ResumeMode.IF_POSSIBLE)
        return list(done.load_dataset()["question"])

    return generate


def distilabel(job: dict[str, Any]) -> Generate:
    """A pipeline of ``LoadDataFromDicts``, all rows in a batch, and ``TextGeneration``, two replicas of 32 in flight.

    A replica sends a batch at once and waits for all of it. One of 64, or four of 16, take longer, as do small batches read.
    """
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts, StepResources
    from distilabel.steps.tasks import TextGeneration

    def generate(name: str, rows: list[str]) -> list[str]:
        parameters = {"temperature": 0.7, "max_new_tokens": 256}
        llm = OpenAILLM(model="m", base_url=job["url"], api_key="none", generation_kwargs=parameters)
        with Pipeline(name=name) as pipeline:
            load = LoadDataFromDicts(data=[{"instruction": row} for row in rows], batch_size=len(rows))
            two = StepResources(replicas=2)
            size = job["in_flight"] // 2
            load >> TextGeneration(llm=llm, system_prompt=job["system"], input_batch_size=size, resources=two)
        return list(pipeline.run()["default"]["train"]["instruction"])

    return generate


def distilabel_llm(job: dict[str, Any]) -> Generate:
    """``OpenAILLM.generate_outputs`` without a pipeline, and so without its processes, files and cache."""
    from distilabel.models import OpenAILLM

    llm = OpenAILLM(model="m", base_url=job["url"], api_key="none")
    llm.load()

    def generate(name: str, rows: list[str]) -> list[str]:
        chats = [[{"role": "system", "content": job["system"]}, {"role": "user", "content": row}] for row in rows]
        for start in range(0, len(chats), job["in_flight"]):
            llm.generate_outputs(inputs=chats[start : start + job["in_flight"]], temperature=0.7, max_new_tokens=256)
        return rows

    return generate


def cpu() -> float:
    """Give the CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def child(job: dict[str, Any]) -> dict[str, Any]:
    """Time one call of one library."""
    generate: Generate = globals()[job["client"]](job)
    if job["warm"]:
        generate("warm", job["warm"])
    wall, used = time.perf_counter(), cpu()
    answered = generate("rows", job["rows"])
    return {"wall": time.perf_counter() - wall, "cpu": cpu() - used, "answered": list(answered)}


class Clients:
    """The clients that are to be measured, with their interpreters."""

    def __init__(self, options: argparse.Namespace) -> None:
        from ledger import SYSTEM

        self.in_flight, self.system = options.in_flight, SYSTEM
        given = {
            "bare": sys.executable,
            "dsrl": sys.executable,
            "curator": options.curator_python,
            "data_designer": options.data_designer_python,
            "distilabel": options.distilabel_python,
            "distilabel_llm": options.distilabel_python,
        }
        self.pythons = {name: python for name, python in given.items() if python}

    def run(self, name: str, url: str, folder: Path, rows: list[str], **changed: Any) -> dict[str, Any]:
        """Run one client in ``folder``, which is its home too, so that its caches lie there."""
        job = {"client": name, "url": url, "rows": rows, "in_flight": self.in_flight, "system": self.system, "warm": []}
        folder.mkdir(exist_ok=True)
        (folder / "job.json").write_text(json.dumps({**job, **changed}))
        done = subprocess.run(
            [self.pythons[name], str(Path(__file__).resolve()), "--child", "job.json"],
            cwd=folder,
            env={**os.environ, **ENVIRONMENT, "HOME": str(folder), "HF_HOME": str(folder / "huggingface")},
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result


def throughput(clients: Clients, options: argparse.Namespace, scratch: Path) -> None:
    from ledger import Server

    count = options.requests
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in clients.pythons}
    with Server(options.latency) as server:
        for turn in range(options.rounds):
            rows = [f"{turn} {number}: 1 + 1?" for number in range(count)]
            warm = [f"warm {number}: 1 + 1?" for number in range(options.in_flight)]
            for name in taken:
                done = clients.run(name, server.url, scratch / f"{name}-{turn}", rows, warm=warm)
                assert sorted(done["answered"]) == sorted(rows), f"{name} answered {len(done['answered'])} rows"
                taken[name].append((done["wall"], done["cpu"]))
    floor = statistics.median(wall for wall, _ in taken["bare"])
    print(f"\n| {count} requests, {options.in_flight} in flight | wall, s | ratio | CPU a request, ms |")
    print("| -- | -- | -- | -- |")
    for name, each in taken.items():
        wall, used = (statistics.median(values) for values in zip(*each, strict=True))
        print(f"| {TITLES[name]} | {wall:.2f} | {wall / floor:.2f} | {used / count * 1000:.2f} |", flush=True)


def refused(clients: Clients, options: argparse.Namespace, scratch: Path) -> None:
    from ledger import Server

    print(f"\n| {ROWS} rows, every 100th request 429 with Retry-After 1 | wall, s | rows answered | requests |")
    print("| -- | -- | -- | -- |")
    for name in clients.pythons:
        if name == "bare":  # It doesn't ask again.
            continue
        with Server(options.latency, 100) as server:
            rows = [f"{number}: 1 + 1?" for number in range(ROWS)]
            done = clients.run(name, server.url, scratch / f"{name}-refused", rows)
            posts = asyncio.run(server.posts())
        print(f"| {TITLES[name]} | {done['wall']:.1f} | {len(done['answered'])} | {posts} |", flush=True)


def cached(clients: Clients, options: argparse.Namespace, scratch: Path) -> None:
    from ledger import Server

    rows = [f"{number}: 1 + 1?" for number in range(ROWS)]
    edited = [*rows[:-1], "edited: 2 + 2?"]
    system = "Take your time. " + clients.system
    print(f"\n| requests for {ROWS} rows | first | same again | one row edited | system prompt edited |")
    print("| -- | -- | -- | -- | -- |")
    for name in clients.pythons:
        if name in ("bare", "distilabel_llm"):  # They have no cache.
            continue
        cells: list[str] = []
        sent: list[int] = []
        with Server(options.latency) as server:
            for given, changed in ((rows, {}), (rows, {}), (edited, {}), (rows, {"system": system})):
                before = asyncio.run(server.posts())
                done = clients.run(name, server.url, scratch / f"{name}-cached", given, **changed)
                sent.append(asyncio.run(server.posts()) - before)
                stale = len(sent) > 2 and (sent[-1] <= sent[1] or sorted(done["answered"]) != sorted(given))
                cells.append(f"{sent[-1]}, stale" if stale else f"{sent[-1]}")
        print(f"| {TITLES[name]} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("curator", "data-designer", "distilabel"):
        parser.add_argument(f"--{name}-python", help=f"interpreter of an environment with {name}; without it not run")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds until the server answers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("\n" + json.dumps(child(json.loads(Path(options.child).read_text()))))
        return
    clients = Clients(options)
    with tempfile.TemporaryDirectory() as name:
        for scenario in (throughput, refused, cached):
            scenario(clients, options, Path(name))


if __name__ == "__main__":
    main()
