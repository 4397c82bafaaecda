"""The requests that OpenAI's bodies stand for."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.completion_body import CompletionBody
from llmserve.domain import Conversation, GenerationRequest, Message, SamplingFields

HELLO = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ChatBody:
    return ChatBody.model_validate({"messages": HELLO} | fields)


def completion(**fields: Any) -> CompletionBody:
    return CompletionBody.model_validate({"prompt": "x"} | fields)


def test_a_chat_is_one_request_with_openais_defaults() -> None:
    [request] = chat(model="m", cache_salt="s", max_tokens=4).requests("r", None)
    assert request == GenerationRequest(
        id="r",
        prompt=Conversation((Message("user", "hi"),)),
        model="m",
        sampling=SamplingFields(max_tokens=4),
        defaults=SamplingFields(temperature=1.0),
        cache_salt="s",
    )


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("x", ["x"]),
        (["x", "y"], ["x", "y"]),
        ([5, 6], [(5, 6)]),
        ([[5], [6, 7]], [(5,), (6, 7)]),
    ],
)
def test_a_prompt_has_four_kinds(prompt: Any, prompts: list[Any]) -> None:
    body = completion(prompt=prompt, n=2)
    requests = body.requests("r", None)
    assert [request.prompt for request in requests[::2]] == prompts
    assert [request.prompt for request in requests[1::2]] == prompts
    assert body.num_requests == len(requests)
    assert {request.defaults.max_tokens for request in requests} == {16}


def test_choices_of_a_seeded_request_differ_and_those_of_another_prompt_do_so_alike() -> None:
    seeds = [r.sampling.seed for r in completion(prompt=["x", "y"], n=3, seed=5).requests("r", 1)]
    assert seeds == [5, 6, 7, 5, 6, 7]
    assert [r.sampling.seed for r in chat(n=2).requests("r", 1)] == [None, None]


@pytest.mark.parametrize(
    ("own", "of_header", "earliest"), [(None, None, None), (5, None, 5), (None, 3, 3), (5, 3, 3)]
)
def test_the_earlier_deadline_counts(
    own: float | None, of_header: float | None, earliest: float | None
) -> None:
    for body in (chat(timeout=own), completion(timeout=own)):
        [request] = body.requests("r", of_header)
        assert request.timeout_seconds == earliest


def test_only_a_conversation_of_very_many_messages_is_long() -> None:
    assert not chat().is_long
    assert chat(messages=HELLO * 5000).is_long
    assert not completion(prompt=[5] * 5000).is_long
