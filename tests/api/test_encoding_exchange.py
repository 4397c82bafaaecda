"""A request for numbers, from its body to the service: who leaves, and in whose name it runs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bounded import run
from fake_encoding import FakeEncoding
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.api.in_process import line_runner
from llmserve.settings import Settings

BODY = b'{"input": "hi", "own": 1}'


def test_the_work_ends_when_the_client_hangs_up(engine: FakeEngine, encoding: FakeEncoding) -> None:
    encoding.is_held = True
    sent: list[Any] = []

    async def test() -> None:
        app = create_app(Settings(drain_timeout_seconds=0))
        arrived = [{"type": "http.request", "body": BODY, "more_body": False}]

        async def receive() -> Any:
            if arrived:
                return arrived.pop()
            while not encoding.requests:  # it hangs up once the service has the request
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": "/v1/embeddings", "raw_path": b"/v1/embeddings",
            "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": None,
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
            await encoding.is_cancelled.wait()

    run(test)
    assert sent[0]["status"] == 499


def test_a_line_of_a_batch_runs_in_the_background(
    engine: FakeEngine, encoding: FakeEncoding
) -> None:
    async def test() -> None:
        app = create_app(Settings(api_keys=("k",), drain_timeout_seconds=0))  # type: ignore[arg-type]
        async with app.router.lifespan_context(app):
            run_line = line_runner(app, app.state.container)
            answered = await run_line(
                "/v1/embeddings", BODY, caller="key-1", request_id="batch_1-7"
            )
        assert (answered.status, answered.headers["x-ignored-fields"]) == (200, "own")
        assert json.loads(answered.body)["data"][0]["embedding"] == [2.0, 0.5]

    run(test)
    [caller] = encoding.callers
    assert (caller.name, caller.is_background, encoding.asked.id) == ("key-1", True, "batch_1-7")


def test_a_strict_server_asks_for_nothing_with_a_field_that_it_would_ignore(
    engine: FakeEngine, encoding: FakeEncoding
) -> None:
    with TestClient(create_app(Settings(strict_fields=True, drain_timeout_seconds=0))) as client:
        answer = client.post(
            "/v1/embeddings", content=BODY, headers={"Content-Type": "application/json"}
        )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "own")
    assert encoding.requests == []
