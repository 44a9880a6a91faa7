from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from dsrl.pipeline.plugin_warnings import MOST_WARNINGS, PluginWarnings, collect_warnings
from dsrl.plugins.discovery import find_plugin
from dsrl.storage.run_log import is_note


@pytest.fixture
def shown() -> list[str]:
    return []


def test_a_warning_of_a_plugin_is_shown_once_and_stored(
    make_context: Any, shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    context, stored = make_context(), []
    _, info = find_plugin("trainer", context.trainer.name)
    log = logging.getLogger(info.target.partition(":")[0] + ".training")
    with collect_warnings(context.plugins, shown.append) as warnings:
        log.warning("all %d answers are alike", 64)
        assert shown == ["all 64 answers are alike"], "also before the run is open"
        warnings.store = stored.append
        log.warning("all %d answers are alike", 64)
        log.info("a step")
        logging.getLogger("another_library").warning("not ours")
        log.error("printed by the command line")
        warnings.handle(logging.LogRecord(log.name, logging.WARNING, "f", 1, "%d", ("no number",), None))
    log.warning("after the run")
    assert shown == ["all 64 answers are alike"]
    assert stored == ["all 64 answers are alike", "printed by the command line"]
    notes = [record.getMessage() for record in caplog.records if is_note(record)]
    assert notes == ["all 64 answers are alike"] * 2, "the command line leaves them out"


def test_a_warning_of_another_thread_is_shown_at_once_and_stored_by_the_thread_of_the_run(shown: list[str]) -> None:
    warnings, stored = PluginWarnings(shown.append), []
    warnings.store = stored.append
    record = logging.LogRecord("p", logging.WARNING, "f", 1, "slow", (), None)
    thread = threading.Thread(target=warnings.handle, args=(record,))
    thread.start()
    thread.join()
    assert (shown, stored) == (["slow"], [])
    warnings.save()
    warnings.save()
    assert stored == ["slow"]


def test_too_many_warnings_are_only_logged(shown: list[str]) -> None:
    warnings = PluginWarnings(shown.append)
    records = [logging.LogRecord("p", logging.WARNING, "f", 1, f"step {n}", (), None) for n in range(MOST_WARNINGS + 5)]
    for record in records:
        warnings.handle(record)
    assert len(shown) == MOST_WARNINGS
    assert [is_note(record) for record in records] == [True] * MOST_WARNINGS + [False] * 5
