"""Signed calls, checked with OpenAI's own library."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import httpx
import pytest
from bounded import run
from job_queues import batch
from openai import OpenAI

from llmserve.errors import InvalidRequest
from llmserve.jobs.batch import Batch, Status, Webhook
from llmserve.jobs.webhook import RETRY_SECONDS, Webhooks

URL = "https://hooks.example/llm/done"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENDED = batch(webhook=Webhook(URL)).at(Status.COMPLETED, 1234.5)


def hooks(status: int = 200, seen: list[httpx.Request] | None = None) -> Webhooks:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status)

    return Webhooks(["https://hooks.example/llm"], SECRET, httpx.MockTransport(answer))


def wait_after(webhooks: Webhooks, ended: Batch) -> float | None:
    waits: list[float | None] = []

    async def test() -> None:
        assert ended.webhook is not None
        waits.append(await webhooks.tell(ended, ended.webhook))

    run(test)
    return waits[0]


@pytest.mark.parametrize("secret", [SECRET, "any text"])
def test_the_call_is_signed_and_says_what_ended(secret: str) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    webhooks = Webhooks(["https://hooks.example"], secret, httpx.MockTransport(answer))
    assert wait_after(webhooks, ENDED) is None
    [request] = seen
    client = OpenAI(api_key="x")
    event = client.webhooks.unwrap(request.content, dict(request.headers), secret=secret)
    assert (event.type, event.data.id) == ("batch.completed", "batch_1")  # type: ignore[union-attr]
    assert json.loads(request.content)["created_at"] == 1234
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    with pytest.raises(Exception, match="signature"):
        client.webhooks.unwrap(request.content + b" ", dict(request.headers), secret=secret)


@pytest.mark.parametrize("status", [0, 302, 400, 500])
def test_a_call_that_is_not_taken_is_made_again_until_it_is_given_up(status: int) -> None:
    for attempts, seconds in enumerate(RETRY_SECONDS):
        again = replace(ENDED, webhook=Webhook(URL, attempts))
        assert wait_after(hooks(status), again) == seconds
    last = replace(ENDED, webhook=Webhook(URL, len(RETRY_SECONDS)))
    assert wait_after(hooks(status), last) is None


def test_an_attempt_again_has_the_same_id() -> None:
    seen: list[httpx.Request] = []
    webhooks = hooks(500, seen)
    wait_after(webhooks, ENDED)
    wait_after(webhooks, replace(ENDED, webhook=Webhook(URL, 1)))
    assert len({request.headers["webhook-id"] for request in seen}) == 1


def test_a_url_that_is_no_longer_allowed_is_not_called() -> None:
    seen: list[httpx.Request] = []
    other = replace(ENDED, webhook=Webhook("https://other.example/"))
    assert wait_after(hooks(200, seen), other) == RETRY_SECONDS[0]
    assert seen == []


@pytest.mark.parametrize(
    "url", [URL, "https://hooks.example/llm", "https://HOOKS.example:443/llm/?a=b"]
)
def test_urls_below_an_allowed_one_may_be_named(url: str) -> None:
    hooks().check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/llm",
        "https://hooks.example/llmx",
        "https://hooks.example/",
        "https://hooks.example:8443/llm",
        "https://hooks.example.evil/llm",
        "https://a@hooks.example/llm",
        "https://hooks.example/llm/../admin",
        "https://hooks.example/llm/%2e%2e/admin",
        "https://hooks.example\\@evil/llm",
        "file:///llm",
        "https://[::1/llm",
        "https://hooks.example:port/llm",
        "",
    ],
)
def test_no_other_urls_may_be_named(url: str) -> None:
    with pytest.raises(InvalidRequest, match="webhook_urls"):
        hooks().check(url)


def test_nothing_is_allowed_by_itself() -> None:
    with pytest.raises(InvalidRequest):
        Webhooks([], "").check(URL)
