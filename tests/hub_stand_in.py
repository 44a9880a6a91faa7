"""A stand-in for the Hugging Face Hub: the requests of an upload, on loopback. It keeps what it is sent."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stand_in_token"


class HubStandIn:
    """Serves the length of a ``with`` block.

    Attributes:
        repos: ``type USER/NAME`` -> path -> content.
        private: ``type USER/NAME`` -> whether it was made private.
        status: the status of the answer to every commit; 200: it is stored.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.status = 200
        self._objects: dict[str, bytes] = {}
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_PUT(self) -> None:
                stand_in._objects[self.path.rpartition("/")[2]] = self._read()
                self._answer(200, {})

            def do_POST(self) -> None:
                body = self._read()
                if f"Bearer {TOKEN}" != self.headers["Authorization"]:
                    self._answer(401, {"error": "Invalid credentials"})
                    return
                status, answer = stand_in._answer(self.path.partition("?")[0], body)
                self._answer(status, answer)

            def _read(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _answer(self, status: int, answer: Any) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubStandIn:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            request = json.loads(body)
            owner = f"{request['organization']}/" if request.get("organization") else "me/"
            key = f"{request.get('type', 'model')} {owner}{request['name']}"
            prefix = "datasets/" if key.startswith("dataset") else ""
            url = f"{self.endpoint}/{prefix}{owner}{request['name']}"
            if key in self.repos:
                return 409, {"error": "You already created this repo", "url": url}
            self.repos[key] = {}
            self.private[key] = request.get("private") or request.get("visibility") == "private"
            return 200, {"url": url}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.endpoint}/object/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        _, _, kinds, owner, name, action, _ = path.split("/", 6)
        key = f"{kinds[:-1]} {owner}/{name}"
        if action == "preupload":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": modes}
        assert action == "commit"
        if self.status != 200:
            return self.status, {"error": "not allowed"}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.repos[key][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self._objects[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                self.repos[key][value["path"]] = content
        prefix = "" if kinds == "models" else f"{kinds}/"
        url = f"{self.endpoint}/{prefix}{owner}/{name}/commit/abc"
        return 200, {"commitUrl": url, "commitOid": "abc", "success": True}
