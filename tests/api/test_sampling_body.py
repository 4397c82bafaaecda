"""The sampling fields of every route: their ranges, and that they reach the engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engines.rules.vocabulary import allowed, forbidden
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.native.frames import PromptFrame
from llmserve.engines.job import Job
from llmserve.engines.task import TokenTask

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/generate": {"prompt": "hi"},
}


@pytest.fixture
def asked(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> list[TokenTask]:
    """The tasks that reach the engine, which has nothing to say."""
    tasks: list[TokenTask] = []
    start = engine.start

    def start_and_finish(job: Job) -> None:
        tasks.append(job.token_task)
        start(job)
        asyncio.get_running_loop().call_soon(engine.finish, job)

    monkeypatch.setattr(engine, "start", start_and_finish)
    return tasks


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("stop_token_ids", [-1], "stop_token_ids.0"),
        ("stop_token_ids", ["5"], "stop_token_ids.0"),
        ("stop_token_ids", [5, 2**31], "stop_token_ids.1"),
        ("stop_token_ids", 5, "stop_token_ids"),
        ("stop_token_ids", [5] * 65, "stop_token_ids"),
        ("stop_token_ids", [128], "stop_token_ids"),
        ("bad_words", [""], "bad_words.0"),
        ("bad_words", ["ok", "x" * 129], "bad_words.1"),
        ("bad_words", ["x"] * 65, "bad_words"),
        ("bad_words", "x", "bad_words"),
        ("allowed_token_ids", [], "allowed_token_ids"),
        ("allowed_token_ids", [5] * 4097, "allowed_token_ids"),
        ("allowed_token_ids", [5, -1], "allowed_token_ids.1"),
        ("allowed_token_ids", [5, 128], "allowed_token_ids"),
        ("include_stop_str_in_output", "yes", "include_stop_str_in_output"),
        ("skip_special_tokens", 0, "skip_special_tokens"),
        ("thinking_token_budget", -1, "thinking_token_budget"),
        ("thinking_token_budget", 1.5, "thinking_token_budget"),
        ("thinking_token_budget", 10, "thinking_token_budget"),
        ("spaces_between_special_tokens", False, "spaces_between_special_tokens"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(
    client: TestClient, asked: list[TokenTask], field: str, value: Any, param: str
) -> None:
    for path, body in BODIES.items():
        answer = client.post(path, json=body | {field: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert asked == []


@pytest.mark.parametrize("field", ["stop_token_ids", "bad_words", "allowed_token_ids"])
def test_a_query_has_no_lists_but_stop(client: TestClient, field: str) -> None:
    answer = client.get("/stream", params={"prompt": "hi", field: "5"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert "is not a field of this request" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", BODIES)
def test_every_field_reaches_the_engine(
    client: TestClient, asked: list[TokenTask], path: str
) -> None:
    fields = {
        "stop_token_ids": [5, 6],
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "bad_words": ["x"],
        "allowed_token_ids": [3, ord("x")],
    }
    answer = client.post(path, json=BODIES[path] | fields)
    assert answer.status_code == 200, answer.text
    assert "X-Ignored-Fields" not in answer.headers
    [task] = asked
    assert task.sampling.stop_token_ids == (5, 6)
    assert task.sampling.includes_stop
    assert not task.sampling.skips_special_tokens
    assert task.new_rule is not None
    assert allowed(task.new_rule(), 128) == {3}


def test_what_nobody_asks_for_is_off(client: TestClient, asked: list[TokenTask]) -> None:
    for path, body in BODIES.items():
        absent = {"stop_token_ids": [], "bad_words": None, "allowed_token_ids": None}
        assert client.post(path, json=body | absent).status_code == 200
    for task in asked:
        assert task.sampling.stop_token_ids == ()
        assert not task.sampling.includes_stop
        assert task.sampling.skips_special_tokens
        assert task.new_rule is None
    assert len(asked) == len(BODIES)


def test_a_query_may_say_what_fits_in_one(client: TestClient, asked: list[TokenTask]) -> None:
    query = {"prompt": "hi", "include_stop_str_in_output": "true", "skip_special_tokens": "false"}
    assert client.get("/stream", params=query).status_code == 200
    [task] = asked
    assert task.sampling.includes_stop
    assert not task.sampling.skips_special_tokens
    refused = client.get("/stream", params={"prompt": "hi", "thinking_token_budget": "5"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "thinking_token_budget")


def test_a_frame_has_the_fields_of_a_body() -> None:
    frame = {"id": "a", "prompt": "hi", "stop_token_ids": [5], "thinking_token_budget": 9}
    [request] = PromptFrame.model_validate(frame | {"bad_words": ["x"]}).requests("r", None)
    assert request.sampling.stop_token_ids == (5,)
    assert request.sampling.thinking_budget == 9
    assert request.sampling.bad_words == ("x",)


def test_every_choice_has_its_own_rule(client: TestClient, asked: list[TokenTask]) -> None:
    body = {"prompt": "hi", "n": 3, "bad_words": ["xy"]}
    assert client.post("/v1/completions", json=body).status_code == 200
    rules = [task.new_rule() for task in asked if task.new_rule is not None]
    rules[0].accept(ord("x"))
    assert [forbidden(rule, 128) for rule in rules] == [{ord("y")}, set(), set()]


@pytest.mark.usefixtures("asked")
def test_a_priority_is_told_as_ignored_unless_it_is_the_default(client: TestClient) -> None:
    for path, body in BODIES.items():
        assert client.post(path, json=body | {"priority": -3}).headers["X-Ignored-Fields"] == (
            "priority"
        )
        assert "X-Ignored-Fields" not in client.post(path, json=body | {"priority": 0}).headers
