"""Images, sounds, videos and files are refused in every dialect: where they are, and which model is
for text only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_engine import FakeEngine, TalkingEngine
from fastapi.testclient import TestClient

from llmserve.bootstrap import models, server
from llmserve.domain import ModelSpec
from llmserve.registry.registry import Registry

TEXT = {"type": "text", "text": "What is this?"}
BASE64 = "QUFB" * 100_000
"""As large as a picture: such a body is read in a thread."""
PART = "messages.1.content.1"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    talker = TalkingEngine()
    registry = Registry([ModelSpec("seer")])
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: registry)
    monkeypatch.setattr(models, "build_engine", lambda *_: talker)
    return talker


@pytest.fixture
def ready(client: TestClient) -> TestClient:
    while client.get("/health/ready").status_code != 200:
        pass
    return client


def openai(kind: str, content: Any) -> dict[str, Any]:
    part = {"type": kind, kind: content}
    return {
        "messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": [TEXT, part]}]
    }


def anthropic(block: dict[str, Any]) -> dict[str, Any]:
    hello = {"role": "user", "content": "hi"}
    return {"max_tokens": 5, "messages": [hello, {"role": "user", "content": [TEXT, block]}]}


def responses(part: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "input_text", "text": "What is this?"}
    return {"input": [{"role": "user", "content": [text, part]}]}


URL = {"url": "data:image/png;base64," + BASE64}
SMALL = {"url": "https://example.com/a.png"}
SOURCE = {"type": "base64", "media_type": "image/png", "data": "QUFB"}
RESULT = {
    "type": "tool_result",
    "tool_use_id": "t",
    "content": [{"type": "image", "source": SOURCE}],
}

CHAT = "/v1/chat/completions"
REFUSED = [
    (CHAT, openai("image_url", SMALL), PART, "images"),
    (CHAT, openai("image_url", URL), PART, "images"),
    (CHAT, openai("input_audio", {"data": "QUFB", "format": "wav"}), PART, "audio"),
    (CHAT, openai("video_url", SMALL), PART, "videos"),
    (CHAT, openai("file", {"file_id": "file-1"}), PART, "files"),
    (CHAT + "/input_tokens", openai("image_url", SMALL), PART, "images"),
    ("/v1/responses", responses({"type": "input_image", "image_url": "x"}),
     "input.0.content.1", "images"),
    ("/v1/responses", responses({"type": "input_file", "file_id": "x"}),
     "input.0.content.1", "files"),
    ("/v1/completions", {"prompt": "hi", "multi_modal_data": {"image": "x"}},
     "multi_modal_data", "images"),
    ("/v1/messages", anthropic({"type": "image", "source": SOURCE}), PART, "images"),
    ("/v1/messages", anthropic({"type": "document", "source": SOURCE}), PART, "files"),
    ("/v1/messages", anthropic(RESULT), PART + ".content.0", "images"),
    ("/v1/messages/count_tokens", anthropic({"type": "image", "source": SOURCE}), PART, "images"),
    ("/api/chat", {"messages": [{"role": "user", "content": "hi", "images": ["QUFB"]}]},
     "messages.0.images", "images"),
    ("/api/generate", {"prompt": "hi", "images": [BASE64]}, "images", "images"),
    ("/generate", {"prompt": "hi", "images": ["QUFB"]}, "images", "images"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "at", "what"), REFUSED)
def test_what_is_no_text_is_refused_where_it_is(
    ready: TestClient, path: str, body: dict[str, Any], at: str, what: str
) -> None:
    answer = ready.post(path, json={"model": "seer"} | body)
    assert answer.status_code == 400
    told = f"{at}: {what} cannot be read: model 'seer' is served for text only"
    error = answer.json()["error"]
    match path.split("/")[1:]:
        case ["api", *_]:
            assert error == told
        case ["v1", "messages", *_]:
            assert (error["type"], error["message"]) == ("invalid_request_error", told)
        case _:
            assert (error["param"], error["message"]) == (at, told)


def test_without_a_name_it_is_the_model(ready: TestClient) -> None:
    error = ready.post(CHAT, json=openai("image_url", SMALL)).json()["error"]
    assert error["message"] == f"{PART}: images cannot be read: the model is served for text only"


def test_a_socket_is_told_so_too(ready: TestClient) -> None:
    with ready.websocket_connect(CHAT) as socket:
        socket.send_text(json.dumps({"id": "a", "model": "seer"} | openai("image_url", SMALL)))
        frame = socket.receive_json()
    assert (frame["type"], frame["id"]) == ("error", "a")
    assert frame["error"]["param"] == PART
    assert "'seer' is served for text only" in frame["error"]["message"]


def test_listings_say_what_models_take(ready: TestClient) -> None:
    [model] = ready.get("/v1/models").json()["data"]
    assert model["modalities"] == {"input": ["text"], "output": ["text"]}
    assert "vision" not in ready.post("/api/show", json={"model": "seer"}).json()["capabilities"]
