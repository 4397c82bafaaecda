"""POST /v1/embeddings over a service that answers anything: refusals first."""

from __future__ import annotations

import base64
import struct

from fake_encoding import FakeEncoding, vector
from fastapi.testclient import TestClient

from llmserve.domain import EncodingAnswer
from llmserve.errors import Forbidden, InvalidRequest, ModelLoading, QueueFull

PATH = "/v1/embeddings"


def test_a_body_that_is_wrong_is_refused_before_anything_is_asked(
    client: TestClient, encoding: FakeEncoding
) -> None:
    answer = client.post(PATH, json={"input": ["a", 1]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input.1")
    assert encoding.requests == []


def test_the_services_refusals_are_answers(client: TestClient, encoding: FakeEncoding) -> None:
    for error, status in (
        (InvalidRequest("it chats", param="model"), 400),
        (Forbidden("not for you"), 403),
        (QueueFull("too many", retry_after_seconds=3.2), 429),
        (ModelLoading("wait", retry_after_seconds=5), 503),
    ):
        encoding.error = error
        answer = client.post(PATH, json={"input": "a"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, error.code)
        if error.retry_after_seconds is not None:
            assert int(answer.headers["retry-after"]) >= error.retry_after_seconds


def test_each_input_has_its_vector(client: TestClient, encoding: FakeEncoding) -> None:
    for sent, inputs in (
        ("hello", ("hello",)),
        (["hello", "you"], ("hello", "you")),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ):
        told = client.post(PATH, json={"input": sent, "model": "m"}).json()
        assert encoding.asked.inputs == inputs
        assert [one["embedding"] for one in told["data"]] == [[len(one), 0.5] for one in inputs]
        assert [(one["object"], one["index"]) for one in told["data"]] == [
            ("embedding", i) for i in range(len(inputs))
        ]
        tokens = 2 * len(inputs)
        assert (told["object"], told["model"]) == ("list", "fake")
        assert told["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_the_earlier_deadline_counts(client: TestClient, encoding: FakeEncoding) -> None:
    client.post(PATH, json={"input": "a", "timeout": 9}, headers={"X-Request-Timeout": "2"})
    assert encoding.asked.timeout_seconds == 2.0


def test_a_field_that_nobody_knows_is_told(client: TestClient, encoding: FakeEncoding) -> None:
    body = {"input": "a", "own": 1, "user": "me", "cache_salt": "x", "add_special_tokens": True}
    assert client.post(PATH, json=body).headers["x-ignored-fields"] == "own"


def test_numbers_come_as_bytes_if_somebody_asks(client: TestClient, encoding: FakeEncoding) -> None:
    numbers = [0.1, -2.5e-8, 3e30]
    encoding.answer = EncodingAnswer("fake", (vector(numbers),) * 2, (1, 1))
    told = client.post(PATH, json={"input": ["a", "b"], "encoding_format": "base64"}).json()
    for one in told["data"]:
        raw = base64.b64decode(one["embedding"])
        assert struct.unpack("<3f", raw) == struct.unpack("<3f", struct.pack("<3f", *numbers))
    digits = client.post(PATH, json={"input": ["a", "b"]}).json()["data"][1]["embedding"]
    assert struct.pack("<3f", *digits) == raw, "the digits give the same numbers again"


def test_it_is_there_without_its_version(client: TestClient, encoding: FakeEncoding) -> None:
    assert client.post("/embeddings", json={"input": "a"}).json()["object"] == "list"
