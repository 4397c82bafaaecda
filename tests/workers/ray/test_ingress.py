"""The ingress before two deployments: who leaves, what is too large, what goes where, and what all
answer together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson
import pytest
from bounded import run
from needs import needs_package
from starlette.types import Message, Scope

needs_package("ray")

from ray.exceptions import RayError  # noqa: E402

from llmserve.settings import Settings  # noqa: E402
from llmserve.workers.ray.deployments import Deployments  # noqa: E402
from llmserve.workers.ray.ingress import Switchboard  # noqa: E402

BOTH = Deployments(("a", "b"), {"a": "a", "b": "b", "second": "b"}, "a")
SERIES = "# TYPE x gauge\nx 1.0\n"


class Handle:
    """A deployment that answers every request with its name, and lists itself."""

    def __init__(self, name: str) -> None:
        self.deployment_name = name
        self.asked: list[tuple[Scope, bytes | None]] = []
        self.status = 200

    def options(self, **options: Any) -> Handle:
        return self

    def remote(self, call_id: str, scope: Scope, body: bytes | None, *, digest: Any) -> Any:
        self.asked.append((scope, body))
        return self._answer(scope["path"])

    def broadcast(self, method: str) -> Handle:
        assert method == "series"
        return self

    async def results_async(self, **options: Any) -> list[Any]:
        return [(self.deployment_name + "1", SERIES), RayError("dead")]

    async def _answer(self, path: str) -> AsyncGenerator[Any]:
        yield "r1"
        content = {
            "data": [{"id": self.deployment_name}],
            "status": "ready",
            "models": [self.deployment_name],
        }
        headers = [(b"content-type", b"application/json"), (b"x-request-id", b"1")]
        yield [
            {"type": "http.response.start", "status": self.status, "headers": headers},
            {"type": "http.response.body", "body": orjson.dumps(content), "more_body": False},
        ]


class Box:
    """An ingress and its two deployments."""

    def __init__(self, **settings: Any) -> None:
        self.handles = {"a": Handle("a"), "b": Handle("b")}
        self._switchboard = Switchboard(Settings(**settings), BOTH, self.handles)

    def ask(
        self,
        path: str,
        body: bytes | Sequence[Message | Exception] = b"",
        *,
        method: str = "POST",
        query: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> tuple[int, dict[str, Any]]:
        """The status and the JSON of an answer; 0 without one."""
        sent: list[Message] = []
        parts = [{"type": "http.request", "body": body}] if isinstance(body, bytes) else list(body)
        scope = {"type": "http", "method": method, "path": path, "query_string": query,
                 "headers": list(headers)}  # fmt: skip

        async def receive() -> Message:
            part = parts.pop(0) if parts else {"type": "http.disconnect"}
            if isinstance(part, Exception):
                raise part
            return part

        async def send(message: Message) -> None:
            sent.append(message)

        async def test() -> None:
            await self._switchboard(scope, receive, send)

        run(test)
        if not sent:
            return 0, {}
        content = b"".join(m.get("body", b"") for m in sent[1:])
        self.text = content.decode()
        return sent[0]["status"], orjson.loads(content) if content.startswith(b"{") else {}

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.handles["a"].asked), len(self.handles["b"].asked)


@pytest.mark.parametrize("last", [{"type": "http.disconnect"}, RayError("cancelled")])
def test_a_client_that_leaves_within_its_body_asks_nobody(last: Message | Exception) -> None:
    box = Box()
    assert box.ask("/generate", [{"type": "http.request", "body": b"{", "more_body": True}, last]) \
        == (0, {})  # fmt: skip
    assert box.asked == (0, 0)


def test_a_body_that_is_too_large_is_refused_in_the_routes_shape() -> None:
    box = Box(max_body_bytes=1024)
    assert box.ask("/api/chat", b"x" * 2000)[0] == 413
    assert isinstance(orjson.loads(box.text)["error"], str)
    assert box.asked == (0, 0)


@pytest.mark.parametrize(
    ("path", "body", "query", "asked"),
    [
        ("/generate", b"{}", b"", (1, 0)),
        ("/generate", b'{"model": "second"}', b"", (0, 1)),
        ("/api/show", b'{"name": "b:latest"}', b"", (0, 1)),
        ("/v1/models/b", b"", b"", (0, 1)),
        ("/stream", b"", b"prompt=x&model=b", (0, 1)),
        ("/generate", b'{"model": "nobody"}', b"", (1, 0)),
        ("/generate", b"no json", b"", (1, 0)),
    ],
)
def test_a_request_goes_to_its_models_deployment(
    path: str, body: bytes, query: bytes, asked: tuple[int, int]
) -> None:
    box = Box()
    assert box.ask(path, body, query=query)[0] == 200
    assert box.asked == asked
    assert all(sent == body for handle in box.handles.values() for _, sent in handle.asked)


def test_a_compressed_body_arrives_plain() -> None:
    import gzip

    box, body = Box(), b'{"model": "b"}'
    box.ask("/generate", gzip.compress(body), headers=[(b"content-encoding", b"gzip")])
    ((scope, sent),) = box.handles["b"].asked
    assert sent == body
    assert scope["headers"] == [(b"content-length", str(len(body)).encode())]


def test_lists_and_readiness_are_everybodys() -> None:
    box = Box()
    assert [m["id"] for m in box.ask("/v1/models", method="GET")[1]["data"]] == ["a", "b"]
    assert box.ask("/health/ready", method="GET")[1]["models"] == ["a", "b"]
    assert box.ask("/v1/models", method="HEAD") == (200, {})


def test_metrics_are_everybodys_for_whom_one_replica_lets_in() -> None:
    box = Box()
    assert box.ask("/metrics", method="GET")[0] == 200
    assert 'x{replica="a1"} 1.0' in box.text
    assert 'x{replica="b1"} 1.0' in box.text
    box.handles["a"].status = 401
    assert box.ask("/metrics", method="GET")[0] == 401
    assert "replica" not in box.text
