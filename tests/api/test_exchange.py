"""A body's generations: how many there may be, where they are made, and when they are closed."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.openai import chat_body
from llmserve.api.openai.chat_body import ChatBody
from llmserve.domain import GenerationRequest
from llmserve.engines.job import Job
from llmserve.errors import GenerationFailed

HELLO = {"messages": [{"role": "user", "content": "hi"}]}


def test_too_many_prompts_are_refused_before_a_request_is_made(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = client.app.state.container.settings.max_prompts_per_request  # type: ignore[attr-defined]
    body = {"prompt": [[5]] * most, "n": 2, "own": 1}
    answer = client.post("/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
    assert f"prompts × n is {2 * most}" in answer.json()["error"]["message"]
    assert answer.headers["x-ignored-fields"] == "own", "told all the same"
    assert engine.started == []


@pytest.mark.parametrize("is_long", [False, True])
def test_a_long_conversation_is_converted_beside_the_event_loop(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    threads: list[str] = []
    requests = ChatBody.requests

    def spy(body: ChatBody, request_id: str, timeout: float | None) -> list[GenerationRequest]:
        threads.append(threading.current_thread().name)
        return requests(body, request_id, timeout)

    monkeypatch.setattr(ChatBody, "requests", spy)
    monkeypatch.setattr(chat_body, "MANY_MESSAGES", 2)
    body = {"messages": HELLO["messages"] * (30 if is_long else 2), "model": "nobody"}
    assert client.post("/v1/chat/completions", json=body).status_code == 404
    [thread] = threads
    assert thread.startswith("asyncio_") == is_long  # a thread of the loop's pool


def test_when_one_choice_fails_the_others_are_cancelled(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = engine.start

    def start_and_fail(job: Job) -> None:
        start(job)
        if len(engine.started) == 1:
            error = GenerationFailed("it broke")
            asyncio.get_running_loop().call_soon(engine.finish, job, error)

    monkeypatch.setattr(engine, "start", start_and_fail)
    answer = client.post("/v1/chat/completions", json=HELLO | {"n": 3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "generation_failed")
    [model] = client.app.state.container.registry.models  # type: ignore[attr-defined]
    running, waiting = client.app.state.container.service.load(model)  # type: ignore[attr-defined]
    assert waiting == 0
    assert running == len(engine.running)
    assert all(job.is_cancelled for job in engine.running)
    client.portal.call(engine.finish_all)  # type: ignore[union-attr]
