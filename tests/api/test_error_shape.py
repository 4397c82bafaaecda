"""A router whose errors look otherwise: all that can go wrong with its routes has its shape."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from fake_engine import FakeEngine
from fastapi import APIRouter, FastAPI, HTTPException, Query
from fastapi.testclient import TestClient
from httpx import Response

from llmserve.api.app import create_app
from llmserve.api.container import identify
from llmserve.api.edge.route import LARGE_BYTES, keyed_route
from llmserve.api.exchange import TheExchange
from llmserve.api.fields import Fields
from llmserve.errors import LLMServeError, QueueFull
from llmserve.settings import Settings

MAX_BODY_BYTES = LARGE_BYTES + 1000
KEY = {"Authorization": "Bearer k1"}
JSON_BODY = {"Content-Type": "application/json"}


def toy_error(error: LLMServeError) -> dict[str, Any]:
    return {"oops": error.code, "says": error.message, "at": error.param}


class ToyBody(Fields):
    """How the route is to end."""

    unsupported = frozenset({"tools"})
    end: Literal["well", "full", "teapot", "bug"]


router = APIRouter(prefix="/toy", route_class=keyed_route(identify, toy_error))


@router.post("/end")
async def end(body: ToyBody) -> dict[str, str]:
    match body.end:
        case "full":
            raise QueueFull("no place left", retry_after_seconds=3)
        case "teapot":
            raise HTTPException(418, "short and stout")
        case "bug":
            raise ZeroDivisionError
    return {"end": body.end}


@router.get("/number")
async def number(number: Annotated[int, Query()], exchange: TheExchange) -> dict[str, int]:
    return {"number": number}


@pytest.fixture
def toy(engine: FakeEngine) -> Iterator[TestClient]:
    settings = Settings(api_keys=("k1",), max_body_bytes=MAX_BODY_BYTES, drain_timeout_seconds=1)
    app: FastAPI = create_app(settings)
    app.include_router(router)
    with TestClient(app, raise_server_exceptions=False) as running:
        yield running


def sent(toy: TestClient, body: bytes | str, **headers: str) -> Response:
    return toy.post("/toy/end", content=body, headers=KEY | JSON_BODY | headers)


def told(answer: Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"oops", "says", "at"}, body
    return dict(body)


def test_an_answer_is_no_error(toy: TestClient) -> None:
    assert sent(toy, '{"end": "well"}').json() == {"end": "well"}


def test_a_stranger(toy: TestClient) -> None:
    answer = toy.post("/toy/end", json={"end": "well"})
    assert told(answer, 401)["oops"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer", "headers are common to all shapes"


@pytest.mark.parametrize("blank", ["", " " * LARGE_BYTES], ids=["small", "large"])
def test_bodies_that_are_not_what_the_route_takes(toy: TestClient, blank: str) -> None:
    for body, at in (
        ("{", None),
        ("[]", None),
        ("{}", "end"),
        ('{"end": 7}', "end"),
        ('{"end": "well", "tools": [1]}', "tools"),
        ("[" * 100 + "]" * 100, None),
    ):
        error = told(sent(toy, blank + body), 400)
        assert (error["oops"], error["at"]) == ("invalid_request", at), body


def test_a_query_that_is_not_what_the_route_takes(toy: TestClient) -> None:
    assert told(toy.get("/toy/number?number=x", headers=KEY), 400)["at"] == "number"


def test_bodies_out_of_bounds(toy: TestClient) -> None:
    too_large = "x" * (MAX_BODY_BYTES + 1)
    assert told(sent(toy, too_large), 413)["oops"] == "body_too_large"
    bomb = gzip.compress(too_large.encode())
    assert told(sent(toy, bomb, **{"Content-Encoding": "gzip"}), 413)["oops"] == "body_too_large"
    answer = sent(toy, "{}", **{"Content-Encoding": "br"})
    assert told(answer, 415)["at"] == "Content-Encoding"


def test_errors_of_ours_of_others_and_bugs(toy: TestClient) -> None:
    answer = sent(toy, '{"end": "full"}')
    assert told(answer, 429)["oops"] == "queue_full"
    assert answer.headers["retry-after"] == "3"
    teapot = told(sent(toy, '{"end": "teapot"}'), 418)
    assert (teapot["oops"], teapot["says"]) == ("i'm_a_teapot", "short and stout")
    assert told(sent(toy, '{"end": "bug"}'), 500)["oops"] == "internal_error"
    headers = KEY | {"X-Request-Timeout": "soon"}
    answer = toy.get("/toy/number?number=1", headers=headers)
    assert told(answer, 400)["at"] == "X-Request-Timeout"


def test_other_routers_and_no_router_keep_openais_shape(toy: TestClient) -> None:
    for answer in (
        toy.get("/nowhere", headers=KEY),
        toy.get("/generate", headers=KEY),
        toy.get("/health", headers={"X-Request-ID": "a b"}),
        toy.post("/generate", content="{", headers=KEY | JSON_BODY),
        toy.post("/v1/completions", content=json.dumps({"prompt": 7}), headers=KEY | JSON_BODY),
    ):
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
