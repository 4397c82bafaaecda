"""Tokens and prompts over a tokenizer of letters: refusals first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


@pytest.fixture
def ready(client: TestClient) -> TestClient:
    while client.get("/health/ready").status_code != 200:
        pass
    return client


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 3}, "prompt"),
        ("/tokenize", CHAT | {"prompt": "x"}, "prompt"),
        ("/tokenize", CHAT | {"add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", CHAT | {"chat_template": "x"}, "chat_template"),
        ("/tokenize", {"messages": [{"role": "user"}]}, "messages.0"),
        ("/tokenize", {"prompt": "x", "model": "nobody"}, "model"),
        ("/tokenize", {"prompt": "a\0"}, "prompt"),
        ("/detokenize", {"tokens": [128]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/apply-template", {"messages": []}, "messages"),
        ("/v1/chat/completions/input_tokens", CHAT | {"temperature": -1}, "temperature"),
    ],
)
def test_an_error_names_the_field(ready: TestClient, path: str, body: Any, param: str) -> None:
    answer = ready.post(path, json=body)
    assert answer.status_code == (404 if param == "model" else 400)
    assert answer.json()["error"]["param"] == param


def test_two_ends_of_a_conversation_are_one_too_many(ready: TestClient) -> None:
    body = CHAT | {"continue_final_message": True, "add_generation_prompt": True}
    answer = ready.post("/apply-template", json=body)
    assert "send one of them" in answer.json()["error"]["message"]


def test_a_text_becomes_tokens_and_tokens_a_text(ready: TestClient) -> None:
    answer = ready.post("/tokenize", json={"prompt": "hi", "own": 1})
    assert answer.json() == {
        "count": 2, "max_model_len": 20, "tokens": [104, 105], "token_strs": None,
    }  # fmt: skip
    assert answer.headers["x-ignored-fields"] == "own"
    told = ready.post("/tokenize", json={"prompt": "hi", "return_token_strs": True}).json()
    assert told["token_strs"] == ["'h", "'i"]
    assert ready.post("/tokenize", json={"prompt": "x" * 50}).json()["count"] == 50
    assert ready.post("/detokenize", json={"tokens": [104, 105]}).json() == {"prompt": "hi"}


def test_a_conversation_becomes_tokens_and_a_prompt(ready: TestClient) -> None:
    assert ready.post("/tokenize", json=CHAT).json()["count"] == 2
    answer = ready.post("/apply-template", json=CHAT | {"continue_final_message": True})
    assert answer.json() == {"prompt": "<user>hi<assistant>ho"}
    counted = ready.post("/v1/chat/completions/input_tokens", json=CHAT | {"stream": True}).json()
    assert counted == {"object": "response.input_tokens", "input_tokens": 2}


def test_special_tokens_are_left_out_if_somebody_asks(
    ready: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    encode: Callable[..., list[int]] = engine.tokenizer.encode

    def spy(prompt: str, *, add_special_tokens: bool) -> list[int]:
        asked.append(add_special_tokens)
        return encode(prompt)

    monkeypatch.setattr(engine.tokenizer, "encode", spy)
    for sent in (None, True, False):
        ready.post("/tokenize", json={"prompt": "x", "add_special_tokens": sent})
    assert asked == [True, True, False]


def test_the_tokenizer_is_described_if_the_operator_lets_it(
    ready: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = ready.get("/tokenizer_info")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    assert "`tokenizer_info`" in refused.json()["error"]["message"]
    container = ready.app.state.container  # type: ignore[attr-defined]
    lenient = container.settings.model_copy(update={"tokenizer_info": True})
    monkeypatch.setattr(type(container), "settings", lenient)
    assert ready.get("/tokenizer_info").json() == {"tokenizer_class": "LetterTokenizer"}
