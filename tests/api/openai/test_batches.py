"""/v1/batches and chats in the background, on the application's own routes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fake_encoding import FakeEncoding
from fastapi.testclient import TestClient

from llmserve.jobs.runner import Runner

OTHER = {"Authorization": "Bearer second"}
CHAT = {"messages": [{"role": "user", "content": "hello"}]}
ENDED = {"completed", "failed", "expired", "cancelled"}


@pytest.fixture
def standing(batching: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Lines wait."""

    async def nothing(self: Runner) -> None:
        return None

    monkeypatch.setattr(Runner, "_take", nothing)
    return batching


def line(name: str, **body: Any) -> dict[str, Any]:
    return {
        "custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": CHAT | body,
    }  # fmt: skip


def input_file(client: TestClient, *lines: dict[str, Any]) -> str:
    text = b"".join(json.dumps(one).encode() + b"\n" for one in lines or [line("a")])
    form = {"purpose": "batch"}
    return str(client.post("/v1/files", files={"file": ("x", text)}, data=form).json()["id"])


def asked(file_id: str, **fields: Any) -> dict[str, Any]:
    known = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return {"input_file_id": file_id} | known | fields


def created(client: TestClient, *lines: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/batches", json=asked(input_file(client, *lines), **fields))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ended(client: TestClient, path: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (body := client.get(path).json())["status"] not in ENDED:
        assert time.monotonic() < deadline, body
        time.sleep(0.01)
    found: dict[str, Any] = body
    return found


def content(client: TestClient, file_id: str) -> list[dict[str, Any]]:
    text = client.get(f"/v1/files/{file_id}/content").text
    return [json.loads(one) for one in text.splitlines()]


def test_lines_have_the_routes_own_answers_and_errors(batching: TestClient) -> None:
    lines = [
        line("good"), line("wrong", temperature=9), line("streamed", stream=True),
        line("other", model="nobody"), line("odd", colour="red"),
    ]  # fmt: skip
    batch = created(batching, *lines, metadata={"k": "v"})
    assert (batch["status"], batch["metadata"]) == ("validating", {"k": "v"})
    done = ended(batching, f"/v1/batches/{batch['id']}")
    assert (done["status"], done["errors"]) == ("completed", None)
    assert done["request_counts"] == {"total": 5, "completed": 2, "failed": 3}
    assert done["completed_at"] >= done["finalizing_at"] >= done["in_progress_at"]
    good, odd = content(batching, done["output_file_id"])
    assert good["response"]["body"]["choices"][0]["message"]["content"] == "ok"
    assert odd["response"]["ignored_fields"] == "colour"
    wrong, streamed, other = content(batching, done["error_file_id"])
    assert wrong["response"]["status_code"] == 400
    assert wrong["response"]["body"]["error"]["param"] == "temperature"
    assert streamed["error"]["code"] == "invalid_request"
    assert other["response"]["body"]["error"]["code"] == "model_not_found"


def test_lines_may_ask_for_embeddings(batching: TestClient, encoding: FakeEncoding) -> None:
    url = "/v1/embeddings"
    lines = [
        {"custom_id": str(n), "method": "POST", "url": url, "body": {"input": "a" * n} | more}
        for n, more in ((1, {}), (2, {"input": []}))
    ]
    batch = created(batching, *lines, endpoint=url)
    done = ended(batching, f"/v1/batches/{batch['id']}")
    assert done["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    [good] = content(batching, done["output_file_id"])
    assert good["response"]["body"]["data"][0]["embedding"] == [1.0, 0.5]
    [wrong] = content(batching, done["error_file_id"])
    assert wrong["response"]["body"]["error"]["param"] == "input"
    assert [caller.is_background for caller in encoding.callers] == [True]


def test_a_batch_is_its_keys_alone(standing: TestClient) -> None:
    path = f"/v1/batches/{created(standing)['id']}"
    for method, of in (("GET", path), ("POST", path + "/cancel")):
        answer = standing.request(method, of, headers=OTHER)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "batch_not_found")
    assert standing.get("/v1/batches", headers=OTHER).json()["data"] == []
    file_id = standing.get(path).json()["input_file_id"]
    answer = standing.post("/v1/batches", json=asked(file_id), headers=OTHER)
    assert answer.json()["error"]["code"] == "file_not_found"


def test_the_same_idempotency_key_makes_one_batch(standing: TestClient) -> None:
    body, key = asked(input_file(standing)), {"Idempotency-Key": "k"}
    first = standing.post("/v1/batches", json=body, headers=key).json()
    again = standing.post("/v1/batches", json=body, headers=key).json()
    assert again["id"] == first["id"]
    changed = body | {"completion_window": "1h"}
    answer = standing.post("/v1/batches", json=changed, headers=key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(standing.get("/v1/batches").json()["data"]) == 1


def test_a_batch_is_cancelled_and_then_not_again(standing: TestClient) -> None:
    batch = created(standing)
    path = f"/v1/batches/{batch['id']}"
    assert standing.delete(f"/v1/files/{batch['input_file_id']}").status_code == 409
    assert standing.post(path + "/cancel").json()["status"] in {"cancelling", "cancelled"}
    done = ended(standing, path)
    assert (done["status"], done["output_file_id"]) == ("cancelled", None)
    assert standing.post(path + "/cancel").json()["status"] == "cancelled"
    assert standing.delete(f"/v1/files/{batch['input_file_id']}").status_code == 200


def test_one_that_has_ended_is_not_cancelled(batching: TestClient) -> None:
    path = f"/v1/batches/{created(batching)['id']}"
    ended(batching, path)
    answer = batching.post(path + "/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


def test_a_wrong_line_is_told_with_its_number(batching: TestClient) -> None:
    batch = created(batching, line("a"), line("a"))
    done = ended(batching, f"/v1/batches/{batch['id']}")
    assert done["status"] == "failed"
    [error] = done["errors"]["data"]
    assert (error["code"], error["line"], error["param"]) == ("duplicate_custom_id", 2, "custom_id")


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"endpoint": "/v1/images/generations"}, 400, "endpoint"),
        ({"completion_window": "25h"}, 400, "completion_window"),
        ({"input_file_id": "file-1"}, 404, "file_id"),
        ({"metadata": {"k": "v" * 513}}, 400, "metadata.k"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400,
         "output_expires_after.seconds"),
        ({"webhook_url": "http://127.0.0.1:9/other"}, 400, "webhook_url"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(
    standing: TestClient, fields: dict[str, Any], status: int, param: str
) -> None:
    answer = standing.post("/v1/batches", json=asked(input_file(standing)) | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_open_batches_of_a_key_are_bounded(standing: TestClient) -> None:
    created(standing)
    created(standing)
    answer = standing.post("/v1/batches", json=asked(input_file(standing)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")


def test_an_output_is_no_input(batching: TestClient) -> None:
    done = ended(batching, f"/v1/batches/{created(batching)['id']}")
    answer = batching.post("/v1/batches", json=asked(done["output_file_id"]))
    assert answer.json()["error"]["param"] == "input_file_id"


def test_a_chat_in_the_background_is_asked_for(batching: TestClient) -> None:
    answer = batching.post("/v1/chat/completions", json=CHAT | {"background": True, "odd": 1})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["x-ignored-fields"] == "odd"
    path = f"/v1/chat/completions/{answer.json()['id']}"
    done = ended(batching, path)
    assert (done["id"], done["status"]) == (answer.json()["id"], "completed")
    assert done["choices"][0]["message"]["content"] == "ok"
    assert batching.get("/v1/batches").json()["data"] == []
    assert batching.get("/v1/files").json()["data"] == []
    assert batching.get(path, headers=OTHER).status_code == 404
    assert batching.post(path + "/cancel").status_code == 409
    assert batching.delete(path).json()["deleted"] is True
    assert batching.get(path).status_code == 404


def test_one_that_fails_has_the_routes_error(batching: TestClient) -> None:
    body = CHAT | {"background": True, "n": 128}
    answer = batching.post("/v1/chat/completions", json=body)
    done = ended(batching, f"/v1/chat/completions/{answer.json()['id']}")
    assert (done["status"], done["choices"]) == ("failed", [])
    assert done["error"]["type"] == "invalid_request_error"


def test_a_chat_in_the_background_is_cancelled(standing: TestClient) -> None:
    answer = standing.post("/v1/chat/completions", json=CHAT | {"background": True})
    path = f"/v1/chat/completions/{answer.json()['id']}"
    assert standing.get(path).json()["status"] == "in_progress"
    assert standing.post(path + "/cancel").json()["status"] == "cancelled"
    assert standing.get(path).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"stream": True}, 400),
        ({"temperature": 9}, 400),
        ({"model": "nobody"}, 404),
        ({"webhook_url": "http://elsewhere.example"}, 400),
    ],
)
def test_a_wrong_chat_is_refused_at_once(
    batching: TestClient, fields: dict[str, Any], status: int
) -> None:
    answer = batching.post("/v1/chat/completions", json=CHAT | {"background": True} | fields)
    assert answer.status_code == status


def test_a_webhook_is_for_the_background(batching: TestClient) -> None:
    body = CHAT | {"webhook_url": "http://127.0.0.1:9/hooks"}
    assert batching.post("/v1/chat/completions", json=body).status_code == 400


def test_where_there_is_no_queue_the_setting_is_named(client: TestClient) -> None:
    answer = client.post("/v1/chat/completions", json=CHAT | {"background": True})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "background")
    assert "`jobs_dir`" in answer.json()["error"]["message"]
