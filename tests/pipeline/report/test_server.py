from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dsrl.errors import StoreError
from dsrl.pipeline.report.server import ReportServer
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.run_store import RunStore


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache")
    store = RunStore(workspace.runs / "trial")
    store.keep_settings({"run": {"name": "trial"}, "task": {"task": "mednli"}})
    store.close()
    return workspace


def fetch(url: str, host: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_page_of_a_run_is_made_anew_for_each_request(workspace: Workspace) -> None:
    with ReportServer(workspace, ["trial"], 0) as server:
        code, page = fetch(server.url)
        assert code == 200
        assert '<body data-reload="5">' in page
        assert "The run is not finished" in page
        root = server.url.removesuffix("trial")
        assert '<a href="/trial">' in fetch(root)[1]
        assert '<a href="/trial">' in page
        assert fetch(root + "../../etc/passwd")[0] == 404
        assert fetch(root + "%2e%2e/other")[0] == 404
        assert fetch(server.url, host="evil.example")[0] == 403


def test_what_cannot_be_served(workspace: Workspace) -> None:
    with pytest.raises(StoreError, match="there is no run 'nothing'"):
        ReportServer(workspace, ["trial", "nothing"], 0)
    with ReportServer(workspace, ["trial"], 0) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        with pytest.raises(StoreError, match=f"port {port} cannot be used"):
            ReportServer(workspace, ["trial"], port)


def test_two_runs_are_shown_on_one_page(workspace: Workspace) -> None:
    other = RunStore(workspace.runs / "second-run")
    other.keep_settings({"run": {"name": "second-run"}, "task": {"task": "mednli"}})
    other.close()
    with ReportServer(workspace, ["trial", "second-run"], 0) as server:
        assert server.url.endswith("/trial/second-run")
        code, page = fetch(server.url)
        assert code == 200
        assert page.count("<main") == 2
        assert "a run without test items has nothing to compare" in page
        assert fetch(server.url + "/nothing") == (404, "There is no run nothing.")


def test_the_server_changes_nothing(workspace: Workspace) -> None:
    def read() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in workspace.runs.rglob("*") if path.is_file()}

    before = read()
    with ReportServer(workspace, ["trial"], 0) as server:
        assert fetch(server.url)[0] == 200
        for method in ("POST", "PUT", "DELETE"):
            request = urllib.request.Request(server.url, data=b"x", method=method)
            with pytest.raises(urllib.error.HTTPError, match="501"):
                urllib.request.urlopen(request, timeout=10)
    assert read() == before
