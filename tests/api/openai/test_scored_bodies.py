"""Fields about the prompt and about which answers are returned: what goes together, and what they
ask of the engine."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.completion_body import CompletionBody
from llmserve.api.openai.shown import Shown
from llmserve.api.validation import invalid_request
from llmserve.domain.request import WHATEVER_FITS

HELLO = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ChatBody:
    return ChatBody.model_validate({"messages": HELLO} | fields)


def completion(**fields: Any) -> CompletionBody:
    return CompletionBody.model_validate({"prompt": "x"} | fields)


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 0, "logprobs": 1}),
        ("best_of", {"best_of": 0}),
        ("best_of", {"best_of": 1, "n": 2}),
        ("best_of", {"best_of": 2, "stream": True}),
        ("best_of", {"best_of": 129}),
        ("prompt_logprobs", {"prompt_logprobs": 1, "stream": True}),
        ("prompt_logprobs", {"prompt_logprobs": -1}),
        ("prompt_logprobs", {"prompt_logprobs": 21}),
        ("logprobs", {"logprobs": 6, "echo": True}),
        ("truncate_prompt_tokens", {"truncate_prompt_tokens": 0}),
        ("truncate_prompt_tokens", {"truncate_prompt_tokens": -2}),
        ("echo", {"echo": 1}),
        ("add_special_tokens", {"add_special_tokens": "no"}),
        ("suffix", {"suffix": "the end"}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        completion(**fields)
    refused = invalid_request(error.value.errors())
    assert refused.param == param
    assert param in refused.message


@pytest.mark.parametrize("field", ["echo", "best_of", "add_special_tokens"])
def test_a_chat_has_no_field_of_text_completions(field: str) -> None:
    with pytest.raises(ValidationError) as error:
        chat(**{field: 2 if field == "best_of" else True})
    assert invalid_request(error.value.errors()).param == field


@pytest.mark.parametrize("make", [chat, completion])
def test_tokens_are_named_by_their_ids_only_where_they_are_told(make: Any) -> None:
    with pytest.raises(ValidationError, match="return_tokens_as_token_ids is for requests with"):
        make(return_tokens_as_token_ids=True)
    logprobs = True if make is chat else 0
    assert make(return_tokens_as_token_ids=True, logprobs=logprobs).shown.tokens_as_ids
    with pytest.raises(ValidationError, match="return_tokens_as_token_ids"):
        completion(return_tokens_as_token_ids=True, best_of=2)


@pytest.mark.parametrize(
    ("fields", "scored"),
    [
        ({}, None),
        ({"logprobs": 2}, None),
        ({"echo": True}, None),
        ({"echo": False, "logprobs": 2}, None),
        ({"echo": True, "logprobs": 0}, 0),
        ({"echo": True, "logprobs": 1, "prompt_logprobs": 3}, 3),
        ({"echo": True, "logprobs": 4, "prompt_logprobs": 3}, 4),
        ({"prompt_logprobs": 0}, 0),
    ],
)
def test_a_prompt_is_scored_for_whoever_wants_most(
    fields: dict[str, Any], scored: int | None
) -> None:
    [request] = completion(**fields).requests("r", None)
    assert request.sampling.prompt_logprobs == scored
    assert request.sampling.logprobs == fields.get("logprobs")


def test_the_best_are_chosen_among_all_that_are_generated() -> None:
    body = completion(prompt=["x", "y"], n=2, best_of=5, seed=1)
    requests = body.requests("r", None)
    assert len(requests) == body.num_requests == 10
    assert [request.sampling.seed for request in requests[:5]] == [1, 2, 3, 4, 5]
    assert {request.sampling.logprobs for request in requests} == {0}, "they are compared by them"
    assert body.shown == Shown(best=2, logprobs=False)
    assert completion(n=2, best_of=2, stream=True).shown.best is None


@pytest.mark.parametrize("make", [chat, completion])
def test_a_long_prompt_loses_its_beginning_if_the_client_wants(make: Any) -> None:
    assert make().requests("r", None)[0].max_prompt_tokens is None
    assert make(truncate_prompt_tokens=7).requests("r", None)[0].max_prompt_tokens == 7
    [request] = make(truncate_prompt_tokens=-1).requests("r", None)
    assert request.max_prompt_tokens == WHATEVER_FITS


@pytest.mark.parametrize(("sent", "adds"), [(None, True), (True, True), (False, False)])
def test_special_tokens_are_added_unless_they_are_not_wanted(sent: bool | None, adds: bool) -> None:
    assert completion(add_special_tokens=sent).requests("r", None)[0].adds_special_tokens is adds


def test_an_echo_is_the_text_that_was_sent_where_that_is_all_there_is() -> None:
    assert completion().echoed is None
    assert completion(echo=True, prompt=["x", "y"]).echoed == ["x", "y"]
    assert completion(echo=True, prompt=[[5], [6]]).echoed == [None, None]
    assert completion(echo=True, truncate_prompt_tokens=5).echoed == [None]
