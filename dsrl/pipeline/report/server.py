"""The report over HTTP on this machine, read-only, while a run is under way."""

from __future__ import annotations

import threading
from contextlib import closing
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

from dsrl.errors import DsrlError, StoreError
from dsrl.pipeline.report.data import collect
from dsrl.pipeline.report.page import make_page
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.run_store import RunStore, run_folders

#: Seconds after which a page of a run that is not finished is loaded again.
RELOAD_SECONDS = 5
_HOSTS = ("127.0.0.1", "localhost")


class ReportServer:
    """Serves the reports of the runs of a folder on the loopback address. Every request reads the run anew.

    Args:
        workspace: the folders of runs and replies.
        run: the run that the address leads to.
        port: the port; 0: any that is free.

    Raises:
        StoreError: the run does not exist, or the port is in use.
    """

    def __init__(self, workspace: Workspace, run: str, port: int) -> None:
        RunStore(workspace.runs / run, work=False).close()
        try:
            self._server = ThreadingHTTPServer((_HOSTS[0], port), _make_handler(workspace))
        except OSError as error:
            raise StoreError(f"port {port} cannot be used ({error.strerror}); give another one with --port") from error
        self._server.daemon_threads = True
        self._stopped = threading.Event()
        self.url = f"http://{_HOSTS[0]}:{self._server.server_port}/{quote(run)}"

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
            name = unquote(urlsplit(self.path).path).strip("/")
            names = [folder.name for folder in run_folders(workspace.runs)]
            if not name:
                self._send(200, "<!doctype html><title>dsrl</title>" + "".join(map(_link, names)))
            elif name in names:
                self._send(*_make_answer(workspace, name))
            else:
                self._send(404, f"There is no run {escape(name)}.")

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


def _make_answer(workspace: Workspace, name: str) -> tuple[int, str]:
    try:
        with closing(RunStore(workspace.runs / name, work=False)) as store:
            report = collect(store, workspace)
    except DsrlError as error:
        return 500, escape(str(error))
    return 200, make_page([report], 0 if report["is_finished"] else RELOAD_SECONDS)


def _link(name: str) -> str:
    return f'<p><a href="/{quote(name)}">{escape(name)}</a></p>'
