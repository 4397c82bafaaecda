"""Every route that uses a model wants a key, and says so in its dialect's shape."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.settings import Settings

OPEN = ("/", "/health", "/ping", "/version")


@pytest.fixture
def locked(engine: FakeEngine) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(api_keys=("k1",), drain_timeout_seconds=1))) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "shape"),
    [
        ("POST", "/api/chat", "ollama"),
        ("POST", "/api/generate", "ollama"),
        ("POST", "/api/show", "ollama"),
        ("GET", "/api/tags", "ollama"),
        ("GET", "/api/ps", "ollama"),
        ("GET", "/api/version", "ollama"),
        ("POST", "/api/pull", "ollama"),
        ("POST", "/api/embed", "ollama"),
        ("POST", "/api/embeddings", "ollama"),
        ("POST", "/", "tgi"),
        ("POST", "/generate_stream", "tgi"),
        ("GET", "/info", "tgi"),
        ("POST", "/embed", "tgi"),
        ("POST", "/predict", "tgi"),
        ("POST", "/similarity", "tgi"),
        ("POST", "/embed_sparse", "tgi"),
        ("POST", "/v1/embeddings", "openai"),
        ("POST", "/embeddings", "openai"),
        ("POST", "/v1/embed", "openai"),
        ("POST", "/v2/embed", "openai"),
        ("POST", "/v1/rerank", "openai"),
        ("POST", "/v2/rerank", "openai"),
        ("POST", "/rerank", "openai"),
        ("POST", "/v1/score", "openai"),
        ("POST", "/score", "openai"),
        ("POST", "/classify", "openai"),
        ("POST", "/tokenize", "openai"),
        ("POST", "/detokenize", "openai"),
        ("GET", "/tokenizer_info", "openai"),
        ("POST", "/apply-template", "openai"),
        ("POST", "/v1/chat/completions/input_tokens", "openai"),
        ("POST", "/chat/completions", "openai"),
        ("GET", "/models", "openai"),
    ],
)
def test_a_stranger_is_told_in_the_dialects_shape(
    locked: TestClient, method: str, path: str, shape: str
) -> None:
    answer = locked.request(method, path, content=b"not read")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    error = answer.json()["error"]
    if shape == "openai":
        assert error["code"] == "invalid_api_key"
    else:
        assert isinstance(error, str)
        assert answer.json().keys() - {"error"} == ({"error_type"} if shape == "tgi" else set())
    known = locked.request(method, path, headers={"Authorization": "Bearer k1"})
    assert known.status_code != 401


@pytest.mark.parametrize("path", OPEN)
def test_what_says_nothing_wants_no_key(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 200
