"""A hub on loopback: the routes that huggingface_hub asks for when it downloads a snapshot."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


def commit_of(repository: str) -> str:
    """Its one commit; huggingface_hub keeps files by commit, so no two may share it."""
    return hashlib.sha1(repository.encode()).hexdigest()


class FakeHub:
    """Repositories by id, each a mapping from file name to content.

    `gated` ids are refused without `token`; with `break_after` set, a download is cut off after
    so many bytes of a file, once; with `is_gone_after_break` there is nothing to go on with.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.token = "hush"
        self.break_after: int | None = None
        self.is_gone_after_break = False
        self.requests: list[tuple[str, str, str | None]] = []
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(with_body=True)

    def log_message(self, *arguments: Any) -> None:
        """Keep the tests' output clean."""

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]), with_body)
        else:
            self._send(404, b"{}")

    def _refused(self, repository: str) -> bool:
        if repository not in self.hub.repositories:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return True
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository in self.hub.gated and token != self.hub.token:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            return True
        return False

    def _api(self, repository: str, rest: list[str]) -> None:
        if self._refused(repository):
            return
        files = self.hub.repositories[repository]
        if rest[:1] == ["revision"] and rest[1] not in {"main", commit_of(repository)}:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for n, c in files.items()
            ]
            self._send(200, json.dumps(tree).encode())
        else:
            info = {
                "id": repository,
                "modelId": repository,
                "sha": commit_of(repository),
                "private": False,
                "siblings": [{"rfilename": name} for name in files],
            }
            self._send(200, json.dumps(info).encode())

    def _file(self, repository: str, name: str, with_body: bool) -> None:
        if self._refused(repository):
            return
        content = self.hub.repositories[repository].get(name)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": commit_of(repository),
        }
        status, start = 200, 0
        asked = self.headers.get("Range")
        if asked and with_body:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, content[start:], headers, with_body=with_body)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not with_body or self.command == "HEAD":
            return
        limit = self.hub.break_after
        if limit is not None and len(body) > limit:
            self.hub.break_after = None
            if self.hub.is_gone_after_break:
                self.hub.repositories.clear()
            self.wfile.write(body[:limit])
            self.close_connection = True
            return
        self.wfile.write(body)


@contextlib.contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub on a free loopback port, stopped at the end."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
