"""The report over HTTP on this machine, read-only, while a run is under way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

from dsrl.errors import DsrlError, StoreError
from dsrl.pipeline.report.data import collect
from dsrl.pipeline.report.page import compare, make_page
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.run_store import RunStore, run_folders

#: Seconds after which a page of a run that is not finished is loaded again.
RELOAD_SECONDS = 5
_HOSTS = ("127.0.0.1", "localhost")


class ReportServer:
    """Serves the reports of the runs of a folder on the loopback address. Every request reads the run anew.

    Args:
        workspace: the folders of runs and replies.
        runs: the runs that the address leads to; all others of the folder can be chosen on the page.
        port: the port; 0: any that is free.

    Raises:
        StoreError: a run does not exist, or the port is in use.
    """

    def __init__(self, workspace: Workspace, runs: Sequence[str], port: int) -> None:
        for run in runs:
            RunStore(workspace.runs / run, work=False).close()
        try:
            self._server = ThreadingHTTPServer((_HOSTS[0], port), _make_handler(workspace))
        except OSError as error:
            raise StoreError(f"port {port} cannot be used ({error.strerror}); give another one with --port") from error
        self._server.daemon_threads = True
        self._stopped = threading.Event()
        self.url = f"http://{_HOSTS[0]}:{self._server.server_port}{_make_address(runs)}"

    def __enter__(self) -> ReportServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Wait for Ctrl-C."""
        while not self._stopped.wait(3600):
            pass


def _make_handler(workspace: Workspace) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another name for this address would let a page of the web read the answer.
            host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host") or ""
            if host not in _HOSTS:
                self._send(403, "This server answers only to this machine.")
                return
            names = [unquote(part) for part in urlsplit(self.path).path.split("/") if part]
            known = [folder.name for folder in run_folders(workspace.runs)]
            if not names:
                self._send(200, "<!doctype html><title>dsrl</title>" + "".join(map(_link, known)))
            elif unknown := [name for name in names if name not in known]:
                self._send(404, f"There is no run {escape(unknown[0])}.")
            else:
                self._send(*_make_answer(workspace, names, known))

        def _send(self, code: int, text: str) -> None:
            body = text.encode("utf-8", "replace")
            self.send_response(code)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name comes from http.server
            return

    return Handler


def _make_answer(workspace: Workspace, names: Sequence[str], known: Sequence[str]) -> tuple[int, str]:
    try:
        with ExitStack() as stack:
            stores = {name: stack.enter_context(closing(RunStore(workspace.runs / name, work=False))) for name in names}
            reports = [collect(store, workspace) for store in stores.values()]
            comparison = compare(stores, workspace)
    except DsrlError as error:
        return 500, escape(str(error))
    links = {name: _make_address([name]) for name in known}
    is_finished = all(report["is_finished"] for report in reports)
    return 200, make_page(reports, comparison, links, 0 if is_finished else RELOAD_SECONDS)


def _make_address(names: Sequence[str]) -> str:
    return "".join(f"/{quote(name, safe='')}" for name in names)


def _link(name: str) -> str:
    return f'<p><a href="{_make_address([name])}">{escape(name)}</a></p>'
