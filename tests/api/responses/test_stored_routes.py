"""Responses that are kept: conversations that go on, answers in the background, and their ways
out."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import orjson
import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient
from openai.types.responses import Response, ResponseItemList
from openai.types.responses.response_item import ResponseItem
from pydantic import TypeAdapter

from llmserve.domain import Conversation, Message
from llmserve.engines.task_builder import TaskBuilder
from llmserve.errors import GenerationFailed
from llmserve.storage.stored import Stored

SECOND = {"Authorization": "Bearer second"}
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Message, ...]]:
    """The messages of each conversation that was asked for."""
    seen: list[tuple[Message, ...]] = []
    build = TaskBuilder.build

    async def spy(builder: TaskBuilder, requests: Any, *rest: Any) -> Any:
        for request in requests:
            assert isinstance(request.prompt, Conversation)
            seen.append(request.prompt.messages)
        return await build(builder, requests, *rest)

    monkeypatch.setattr(TaskBuilder, "build", spy)
    return seen


def created(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/responses", json={"input": "hi"} | fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    Response.model_validate(body)
    return body


def status(client: TestClient, response_id: str) -> str:
    told: str = client.get(f"/v1/responses/{response_id}").json()["status"]
    return told


def wait_until(client: TestClient, response_id: str, wanted: str) -> dict[str, Any]:
    """Asked again, as clients of the API do."""
    deadline = time.monotonic() + 30
    while status(client, response_id) != wanted:
        assert time.monotonic() < deadline
    body: dict[str, Any] = client.get(f"/v1/responses/{response_id}").json()
    Response.model_validate(body)
    return body


def refusal(answer: Any) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_a_response_is_kept_unless_it_should_not_be(
    talkative: FakeEngine, keeping: TestClient
) -> None:
    body = created(keeping)
    assert body["store"] is True
    assert keeping.get(f"/v1/responses/{body['id']}").json() == body
    other = created(keeping, store=False)
    assert other["store"] is False
    assert keeping.get(f"/v1/responses/{other['id']}").status_code == 404


def test_a_streamed_response_is_kept_when_its_last_event_is_read(
    talkative: FakeEngine, keeping: TestClient
) -> None:
    with keeping.stream("POST", "/v1/responses", json={"input": "hi", "stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    last = orjson.loads(lines[-1][6:])["response"]
    assert keeping.get(f"/v1/responses/{last['id']}").json() == last


def test_another_key_sees_nothing_of_it(talkative: FakeEngine, keeping: TestClient) -> None:
    body = created(keeping)
    path = f"/v1/responses/{body['id']}"
    for method, below in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/input_items"),
    ):
        answer = keeping.request(method, path + below, headers=SECOND)
        assert refusal(answer) == (404, "response_not_found", "response_id")
    gone_on = {"input": "more", "previous_response_id": body["id"]}
    assert refusal(keeping.post("/v1/responses", json=gone_on, headers=SECOND)) == (
        400,
        "previous_response_not_found",
        "previous_response_id",
    )
    referred = {"input": [{"type": "item_reference", "id": body["output"][0]["id"]}]}
    answer = keeping.post("/v1/responses", json=referred, headers=SECOND)
    assert refusal(answer) == (400, "invalid_request", "input.0.id")
    assert keeping.get(path).status_code == 200


def test_a_conversation_goes_on_without_the_earlier_instructions(
    talkative: FakeEngine, keeping: TestClient, prompts: list[tuple[Message, ...]]
) -> None:
    first = created(keeping, input="a", instructions="Be brief.")
    second = created(keeping, input="b", previous_response_id=first["id"])
    created(keeping, input="c", previous_response_id=second["id"], instructions="Be loud.")
    ok = Message("assistant", "ok")
    a, b, c = (Message("user", text) for text in "abc")
    assert prompts == [
        (Message("system", "Be brief."), a),
        (a, ok, b),
        (Message("system", "Be loud."), a, ok, b, ok, c),
    ]
    assert second["previous_response_id"] == first["id"]


def test_a_conversation_whose_beginning_was_deleted_does_not_go_on(
    talkative: FakeEngine, keeping: TestClient
) -> None:
    first = created(keeping)
    second = created(keeping, previous_response_id=first["id"])
    deleted = keeping.delete(f"/v1/responses/{first['id']}")
    assert deleted.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert keeping.delete(f"/v1/responses/{first['id']}").status_code == 404
    asked = {"input": "x", "previous_response_id": second["id"]}
    answer = keeping.post("/v1/responses", json=asked)
    assert refusal(answer)[1] == "previous_response_not_found"
    assert first["id"] in answer.json()["error"]["message"]


def test_a_tools_result_may_come_without_the_call(
    talkative: FakeEngine, keeping: TestClient, prompts: list[tuple[Message, ...]]
) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    first = created(keeping, input=[{"role": "user", "content": "?"}, call])
    output = {"type": "function_call_output", "call_id": "c", "output": "sunny"}
    created(keeping, input=[output], previous_response_id=first["id"])
    roles = [message.role for message in prompts[-1]]
    assert roles == ["user", "assistant", "assistant", "tool"]


def test_single_items_are_referred_to(
    talkative: FakeEngine, keeping: TestClient, prompts: list[tuple[Message, ...]]
) -> None:
    first = created(keeping, input="a")
    [asked] = keeping.get(f"/v1/responses/{first['id']}/input_items").json()["data"]
    references = [
        {"type": "item_reference", "id": asked["id"]},
        {"id": first["output"][0]["id"]},
        {"role": "user", "content": "b"},
    ]
    second = created(keeping, input=references)
    assert prompts[-1] == (Message("user", "a"), Message("assistant", "ok"), Message("user", "b"))
    listed = keeping.get(f"/v1/responses/{second['id']}/input_items?order=asc").json()["data"]
    assert [item["id"] for item in listed[:2]] == [asked["id"], first["output"][0]["id"]]
    wrong = {"input": [{"type": "item_reference", "id": "msg_" + "0" * 32 + "_0"}]}
    assert refusal(keeping.post("/v1/responses", json=wrong))[2] == "input.0.id"


def test_input_items_are_listed_in_pages(talkative: FakeEngine, keeping: TestClient) -> None:
    items = [
        {"role": "user", "content": "a"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
    ]
    path = f"/v1/responses/{created(keeping, input=items)['id']}/input_items"
    whole = keeping.get(path, params={"order": "asc"}).json()
    ResponseItemList.model_validate(whole)
    for item in whole["data"]:
        ITEM.validate_python(item)
    ids = [item["id"] for item in whole["data"]]
    assert len(set(ids)) == 5
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == (ids[0], ids[-1], False)
    page = keeping.get(path, params={"limit": 2}).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids[:2:-1], True)
    rest = keeping.get(path, params={"after": page["last_id"]}).json()
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (ids[2::-1], False)
    assert refusal(keeping.get(path, params={"after": "x"}))[2] == "after"
    assert refusal(keeping.get(path, params={"limit": 0}))[2] == "limit"


def test_a_stored_response_is_not_streamed_again(
    talkative: FakeEngine, keeping: TestClient
) -> None:
    path = f"/v1/responses/{created(keeping)['id']}"
    assert refusal(keeping.get(path, params={"stream": "true"}))[::2] == (400, "stream")
    assert refusal(keeping.get(path, params={"starting_after": 1}))[2] == "starting_after"


def test_in_the_background_it_goes_on_without_its_client(
    engine: FakeEngine, keeping: TestClient
) -> None:
    engine.capacity = 1
    first, second = (created(keeping, background=True, input=text) for text in "ab")
    assert (first["status"], first["output"], first["background"]) == ("queued", [], True)
    assert wait_until(keeping, first["id"], "in_progress")["usage"] is None
    asked = {"input": "x", "previous_response_id": first["id"]}
    assert refusal(keeping.post("/v1/responses", json=asked))[2] == "previous_response_id"
    [job] = engine.running
    keeping.portal.call(engine.say, job, "ok")  # type: ignore[union-attr]
    assert status(keeping, second["id"]) == "queued"
    keeping.portal.call(engine.finish, job)  # type: ignore[union-attr]
    body = wait_until(keeping, first["id"], "completed")
    assert body["output"][0]["content"][0]["text"] == "ok"
    assert body["usage"]["output_tokens"] == 1
    wait_until(keeping, second["id"], "in_progress")
    keeping.portal.call(engine.finish_all)  # type: ignore[union-attr]
    wait_until(keeping, second["id"], "completed")


def test_what_cannot_be_accepted_is_refused_at_once_in_the_background_too(
    engine: FakeEngine, keeping: TestClient
) -> None:
    answer = keeping.post("/v1/responses", json={"input": "a", "background": True, "model": "x"})
    assert refusal(answer) == (404, "model_not_found", "model")


def test_a_cancelled_response_stays_cancelled(engine: FakeEngine, keeping: TestClient) -> None:
    body = created(keeping, background=True)
    path = f"/v1/responses/{body['id']}"
    wait_until(keeping, body["id"], "in_progress")
    [job] = engine.running
    answer = keeping.post(path + "/cancel").json()
    Response.model_validate(answer)
    assert answer["status"] == "cancelled"
    deadline = time.monotonic() + 30
    while not job.is_cancelled:
        assert time.monotonic() < deadline
    keeping.portal.call(engine.finish, job)  # type: ignore[union-attr]
    assert keeping.get(path).json() == answer
    assert keeping.post(path + "/cancel").json() == answer, "twice is harmless"


def test_only_what_runs_in_the_background_is_cancelled(
    talkative: FakeEngine, keeping: TestClient
) -> None:
    path = f"/v1/responses/{created(keeping)['id']}"
    assert refusal(keeping.post(path + "/cancel"))[0] == 400
    done = created(keeping, background=True)
    body = wait_until(keeping, done["id"], "completed")
    assert keeping.post(f"/v1/responses/{done['id']}/cancel").json() == body


def test_deleting_one_in_the_background_ends_it(engine: FakeEngine, keeping: TestClient) -> None:
    body = created(keeping, background=True)
    wait_until(keeping, body["id"], "in_progress")
    [job] = engine.running
    keeping.delete(f"/v1/responses/{body['id']}")
    deadline = time.monotonic() + 30
    while not job.is_cancelled:
        assert time.monotonic() < deadline
    keeping.portal.call(engine.finish, job)  # type: ignore[union-attr]
    assert keeping.get(f"/v1/responses/{body['id']}").status_code == 404


def test_what_ran_in_a_worker_that_ended_has_failed(
    talkative: FakeEngine, keeping: TestClient
) -> None:
    finished = created(keeping, background=True)
    response = wait_until(keeping, finished["id"], "completed")
    half = response | {"id": "resp_half", "status": "in_progress", "output": [], "usage": None}
    store = keeping.app.state.container.responses  # type: ignore[attr-defined]
    lost = Stored("resp_half", "key-1", None, "in_progress", "gone", orjson.dumps(half), b"[]")
    keeping.portal.call(store.insert, lost)  # type: ignore[union-attr]
    body = keeping.get("/v1/responses/resp_half").json()
    Response.model_validate(body)
    assert (body["status"], body["error"]["code"]) == ("failed", "server_error")
    assert "worker" in body["error"]["message"]
    assert keeping.get("/v1/responses/resp_half").json() == body


def test_a_response_that_fails_in_the_background_says_so(
    engine: FakeEngine, keeping: TestClient
) -> None:
    body = created(keeping, background=True)
    wait_until(keeping, body["id"], "in_progress")
    [job] = engine.running
    keeping.portal.call(engine.finish, job, GenerationFailed("it broke"))  # type: ignore[union-attr]
    failed = wait_until(keeping, body["id"], "failed")
    assert failed["error"] == {"code": "server_error", "message": "it broke"}


def test_an_answer_that_cannot_be_stored_is_told_all_the_same(
    talkative: FakeEngine, keeping: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    store = keeping.app.state.container.responses  # type: ignore[attr-defined]
    monkeypatch.setattr(store._database, "insert", fail)
    assert created(keeping)["output"][0]["content"][0]["text"] == "ok"
    answer = keeping.post("/v1/responses", json={"input": "hi", "background": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_failed")
    service = keeping.app.state.container.service  # type: ignore[attr-defined]
    assert not service.has_open


def test_tokens_are_counted_with_the_conversation(
    talkative: FakeEngine, keeping: TestClient
) -> None:
    first = created(keeping)
    asked = {"input": "more", "previous_response_id": first["id"]}
    answer = keeping.post("/v1/responses/input_tokens", json=asked)
    assert answer.json()["input_tokens"] == 3
