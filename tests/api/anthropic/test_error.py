"""Our errors in Anthropic's shape."""

from __future__ import annotations

import pytest

from llmserve.api.anthropic.error import anthropic_error
from llmserve.errors import (
    BodyTooLarge,
    Forbidden,
    GenerationFailed,
    InputTooLong,
    InvalidRequest,
    LLMServeError,
    ModelLoading,
    ModelNotFound,
    OutOfMemory,
    PromptTooLong,
    QueueFull,
    Unauthorized,
    WorkerGone,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (Forbidden("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (BodyTooLarge("x"), "request_too_large"),
        (QueueFull("x"), "rate_limit_error"),
        (GenerationFailed("x"), "api_error"),
        (WorkerGone("x"), "api_error"),
        (ModelLoading("x"), "overloaded_error"),
        (OutOfMemory("x"), "overloaded_error"),
    ],
)
def test_each_kind_has_its_type(error: LLMServeError, kind: str) -> None:
    body = anthropic_error(error)
    assert body == {
        "type": "error",
        "error": {"type": kind, "message": "x", "details": {"error_code": error.code}},
        "request_id": None,
    }


def test_every_error_below_500_has_a_type_that_anthropic_knows() -> None:
    def kinds(kind: type[LLMServeError]) -> set[type[LLMServeError]]:
        return {kind}.union(*(kinds(child) for child in kind.__subclasses__()))

    types = {
        anthropic_error(kind("x"))["error"]["type"]
        for kind in kinds(LLMServeError) - {InputTooLong, PromptTooLong}
    }
    assert types == {
        "api_error", "authentication_error", "invalid_request_error", "not_found_error",
        "overloaded_error", "permission_error", "rate_limit_error", "request_too_large",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("is_exact", "tokens"), [(True, "70 tokens"), (False, "70 tokens or more")]
)
def test_a_prompt_that_is_too_long_is_told_in_the_sentence_that_agents_look_for(
    is_exact: bool, tokens: str
) -> None:
    error = anthropic_error(PromptTooLong(70, 5, 65, is_exact=is_exact))["error"]
    assert error["message"] == f"prompt is too long: {tokens} > 64 maximum"
    assert error["details"]["error_code"] == "context_length_exceeded"


def test_a_conversation_that_the_server_should_hold_has_the_code_that_clients_look_for() -> None:
    told = anthropic_error(InvalidRequest("'thread' is not supported", param="thread"))["error"]
    assert told["details"] == {"error_code": "thread_unsupported_request", "param": "thread"}
