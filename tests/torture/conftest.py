"""Runs all that is selected here in parallel, since most of the time goes by in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from torture.commands import make_index

#: Runs at the same time, for each core: they wait for the provider half of their time.
_FOR_A_CORE = 2


@pytest.fixture(scope="session")
def torture_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the passage library, made once."""
    return make_index(tmp_path_factory.mktemp("torture"))


@pytest.fixture(scope="session")
def torture_futures(request: pytest.FixtureRequest, torture_index: Path) -> Iterator[dict[str, Future[Any]]]:
    """What comes of every selected test of this folder: the work of its mark ``torture_work``, all begun at once."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(_FOR_A_CORE * (os.cpu_count() or 1), mp_context=spawn)
    futures = {}
    for item in request.session.items:
        case = getattr(item, "callspec", None)
        work: Callable[..., Any] | None = getattr(getattr(item, "function", None), "torture_work", None)
        if work is not None and case is not None:
            futures[item.nodeid] = pool.submit(work, case.params["case"], torture_index)
    yield futures
    pool.shutdown(cancel_futures=True)


@pytest.fixture
def came_of_it(request: pytest.FixtureRequest, torture_futures: dict[str, Future[Any]]) -> Any:
    """What came of the work of this test."""
    return torture_futures[request.node.nodeid].result()
