"""OpenAI's routes for clients whose base URL has no `/v1`."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.testclient import TestClient

from llmserve.api.bare_paths import without_version

CHAT = {"messages": [{"role": "user", "content": "hi"}], "temperature": -1}


def test_a_path_is_there_without_its_version(client: TestClient) -> None:
    for prefix in ("", "/v1"):
        assert client.get(f"{prefix}/models").json()["data"][0]["id"] == "fake"
        assert client.head(f"{prefix}/models/fake").status_code == 200
        for path in (
            "/chat/completions",
            "/completions",
            "/chat/completions/input_tokens",
            "/responses",
            "/embeddings",
            "/score",
        ):
            error = client.post(prefix + path, json=CHAT | {"prompt": 1}).json()["error"]
            assert error["type"] == "invalid_request_error", path
    assert client.get("/chat/nothing").status_code == 404
    assert "/models" not in client.get("/openapi.json").json()["paths"]


def test_a_path_that_another_route_has_stays_its_own() -> None:
    async def handler() -> None: ...

    versions, others = APIRouter(prefix="/v1"), APIRouter()
    for path in ("/tokens", "/texts"):
        versions.add_api_route(path, handler)
    others.add_api_route("/tokens", handler)
    bare = without_version([versions], [versions, others])
    assert [route.path for route in bare.routes] == ["/texts"]  # type: ignore[attr-defined]
