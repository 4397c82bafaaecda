"""Models in Anthropic's shape, for requests with its version; all others get OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import ModelInfo
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.bootstrap import models, server
from llmserve.domain import ModelSpec
from llmserve.registry.registry import Registry
from llmserve.settings import Settings

VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    specs = [ModelSpec(name, aliases=(name.upper(),)) for name in "abcd"]
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: Registry(specs))
    monkeypatch.setattr(models, "build_engine", lambda *_: FakeEngine())
    settings = Settings(drain_timeout_seconds=1, api_keys=("k1",))
    with TestClient(create_app(settings), headers={"x-api-key": "k1"}) as running:
        yield running


def page(client: TestClient, **query: Any) -> tuple[str, bool]:
    body = client.get("/v1/models", params=query, headers=VERSION).json()
    ids = [model["id"] for model in body["data"]]
    assert (body["first_id"], body["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return "".join(ids), body["has_more"]


def test_models_are_listed_by_pages(several: TestClient) -> None:
    assert page(several) == ("abcd", False)
    assert page(several, limit=3) == ("abc", True)
    assert page(several, limit=3, after_id="c") == ("d", False)
    assert page(several, limit=2, before_id="d") == ("bc", True)
    assert page(several, limit=2, before_id="b") == ("a", False)
    assert page(several, after_id="d") == ("", False)
    assert page(several, **{"lifecycle[]": ["retired", "active"]}) == ("abcd", False)
    assert page(several, **{"lifecycle[]": ["retired"]}) == ("", False)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after_id=z", "before_id=z"])
def test_a_page_that_is_not_there(several: TestClient, query: str) -> None:
    answer = several.get(f"/v1/models?{query}", headers=VERSION)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["details"]["param"] == query.partition("=")[0]


def test_one_model_by_name_or_alias(client: TestClient) -> None:
    body = client.get("/v1/models/fake", headers=VERSION).json()
    ModelInfo.model_validate(body, extra="forbid")
    assert body.pop("created_at").endswith("Z")
    assert body == {
        "type": "model",
        "id": "fake",
        "display_name": "fake",
        "lifecycle": "active",
        "max_input_tokens": 20,
        "max_tokens": 20,
    }
    assert client.head("/v1/models/fake", headers=VERSION).status_code == 200
    answer = client.get("/v1/models/nobody", headers=VERSION)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


def test_a_stranger(several: TestClient) -> None:
    for path in ("/v1/models", "/v1/models/a"):
        answer = several.get(path, headers=VERSION | {"x-api-key": "wrong"})
        assert answer.json()["error"]["type"] == "authentication_error"


def test_without_a_version_they_are_openais(client: TestClient) -> None:
    assert client.get("/v1/models").json()["object"] == "list"
    assert client.get("/v1/models/fake").json()["object"] == "model"
    answer = client.post("/v1/models", headers=VERSION)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
