"""Requests of the server to itself."""

from __future__ import annotations

import json

import pytest
from bounded import run
from fake_engine import FakeEngine

from llmserve.api.app import create_app
from llmserve.api.in_process import line_runner
from llmserve.domain import Caller
from llmserve.jobs.answered import Answered
from llmserve.service import Service
from llmserve.settings import Settings

BODY = b'{"prompt": "hi", "own": 1}'


def asked(caller: str, url: str = "/v1/completions", body: bytes = BODY) -> Answered:
    answers: list[Answered] = []

    async def test() -> None:
        app = create_app(Settings(api_keys=("k",), drain_timeout_seconds=0))  # type: ignore[arg-type]
        async with app.router.lifespan_context(app):
            run_line = line_runner(app, app.state.container)
            answers.append(await run_line(url, body, caller=caller, request_id="batch_1-7"))

    run(test)
    return answers[0]


def test_a_line_runs_as_background_work_of_its_key(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: list[Caller] = []
    real = Service.open_all

    def spy(self: Service, requests: object, caller: Caller) -> object:
        callers.append(caller)
        return real(self, requests, caller)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(Service, "open_all", spy)
    answered = asked("key-1", body=b'{"prompt": "hi", "own": 1, "n": 200}')
    assert answered.status == 400
    answered = asked("key-1", body=b'{"prompt": "hi", "model": "nobody", "own": 1}')
    assert (answered.status, json.loads(answered.body)["error"]["code"]) == (404, "model_not_found")
    assert answered.headers["x-request-id"] == "batch_1-7"
    assert answered.headers["x-ignored-fields"] == "own"
    assert [(caller.name, caller.is_background) for caller in callers] == [("key-1", True)]


def test_the_line_of_a_key_that_is_no_longer_valid_is_refused(engine: FakeEngine) -> None:
    answered = asked("key-2")
    assert (answered.status, json.loads(answered.body)["error"]["code"]) == (401, "invalid_api_key")
    assert engine.started == []
