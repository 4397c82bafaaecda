"""Anthropic's own client and a server that wants keys."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import pytest
from server import Server

HELLO: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 1,
    "messages": [{"role": "user", "content": "hi"}],
}


def client(server: Server, **credentials: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, max_retries=0, timeout=30, **credentials)


@pytest.mark.parametrize("credentials", [{"api_key": "k1"}, {"auth_token": "k1", "api_key": None}])
def test_a_good_key(guarded: Server, credentials: dict[str, Any]) -> None:
    message = client(guarded, **credentials).messages.create(**HELLO)
    assert message.usage.output_tokens == 1


def test_a_wrong_key(guarded: Server) -> None:
    wrong = client(guarded, api_key="wrong")
    asked = (
        lambda: wrong.messages.create(**HELLO),
        lambda: wrong.messages.create(**HELLO, stream=True),
        lambda: wrong.messages.count_tokens(model="tiny", messages=HELLO["messages"]),
        wrong.models.list,
        wrong.messages.batches.list,
    )
    for ask in asked:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            ask()
        assert refused.value.type == "authentication_error"
        assert refused.value.request_id is not None


def test_a_body_that_is_too_large(guarded: Server) -> None:
    words = [{"role": "user", "content": "x" * 300_000}]
    with pytest.raises(anthropic.ContentTooLargeError) as refused:
        client(guarded, api_key="k1").messages.create(**HELLO | {"messages": words})
    assert refused.value.status_code == 413


def test_the_header_of_older_clients(guarded: Server) -> None:
    url = guarded.url + "/v1/messages"
    answer = httpx.post(url, json=HELLO, headers={"x-api-key": "schlüssel".encode()}, timeout=30)
    assert answer.status_code == 200
