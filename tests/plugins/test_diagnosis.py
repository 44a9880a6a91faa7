"""``dsrl doctor`` on plugins that work, lack something, are broken, or hang."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dsrl.plugins.diagnosis import Diagnosis, diagnose_plugins, find_missing_packages

SAMPLER = """
from dsrl import Finding, hookimpl

class Sampler:
    def __init__(self, model, ray_address=""):
        self.address = ray_address

    @hookimpl
    async def sample(self, prompts, n):
        return [[""] * n for _ in prompts]

    @hookimpl
    def diagnose(self, model):
        {body}
"""


@pytest.fixture
def diagnose(install: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that installs a sampler as the only one, and diagnoses it."""

    def work(source: str, time_limit: float = 60.0, **options: Any) -> Diagnosis:
        from dsrl.plugins import diagnosis

        module = install("sampler", "checked", source, distribution="checked-sampler", value="")
        list_all = diagnosis.list_plugins
        monkeypatch.setattr(
            diagnosis, "list_plugins", lambda kind: [p for p in list_all(kind) if p.distribution == "checked-sampler"]
        )
        monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))  # for the child process
        assert module
        return next(one for one in diagnose_plugins(options, time_limit) if one.distribution == "checked-sampler")

    return work


def write(body: str) -> str:
    return SAMPLER.replace("{body}", body) + "\n\nimport sys\nsys.modules[__name__] = Sampler\n"


def test_a_plugin_answers_for_itself(diagnose: Any) -> None:
    body = "return [Finding('ok', f'works with {model} at {self.address}'), Finding('warning', 'no GPU', 'buy one')]"
    found = diagnose(write(body), model="m", ray_address="h:1")
    assert [(one.level, one.text, one.mend) for one in found.findings] == [
        ("ok", "works with m at h:1", ""),
        ("warning", "no GPU", "buy one"),
    ]
    assert found.is_installed
    assert found.level == "warning"


@pytest.mark.parametrize(
    ("source", "level", "words"),
    [
        (write("return None"), "ok", ""),
        (write("return ['fine']"), "problem", "returned a list of str, not of Finding"),
        (write("return [Finding('great', 'a')]"), "problem", "level 'great'"),
        (write("raise OSError('no driver')"), "problem", "its hook diagnose failed with OSError: no driver"),
        (write("import os; os._exit(7)"), "problem", "exit code 7"),
        ("import no_such_engine\n", "problem", "cannot be imported: ModuleNotFoundError.*pip install no_such_engine"),
        (
            write("return ()").replace("ray_address=''", "x").replace('ray_address=""', "url"),
            "warning",
            "needs the option",
        ),
    ],
)
def test_what_is_wrong_is_a_finding(diagnose: Any, source: str, level: str, words: str) -> None:
    import re

    found = diagnose(source)
    assert found.level == level
    assert re.search(words, found.findings[0].text if found.findings else "")


def test_a_plugin_that_hangs_costs_its_time_limit(diagnose: Any) -> None:
    found = diagnose(write("import time; time.sleep(600)"), time_limit=3)
    assert found.level == "problem"
    assert "did not answer within 3 s" in found.findings[0].text


def test_what_is_not_installed_comes_from_the_catalogue(diagnose: Any) -> None:
    diagnose(write("return None"))
    missing = {(one.kind, one.name): one for one in diagnose_plugins({}) if not one.is_installed}
    assert (
        missing["sampler", "vllm"]
        .findings[0]
        .mend.startswith("pip install ./plugins/dsrl-transformers ./plugins/dsrl-vllm")
    )
    assert {one.level for one in missing.values()} == {"note"}


def test_missing_packages_are_read_from_the_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "half_there-1.0.dist-info"
    info.mkdir()
    needs = ["click>=8", "no-such-engine>=2", "other ; extra == 'gpu'"]
    lines = "\n".join(f"Requires-Dist: {need}" for need in needs)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: half-there\nVersion: 1.0\n{lines}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_missing_packages("half-there") == ["no-such-engine>=2"]
    assert find_missing_packages("not-there-at-all") == []
