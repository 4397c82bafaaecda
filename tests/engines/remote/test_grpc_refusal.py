"""What each status means for a request, before and after a part of its answer."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from llmserve.engines.remote.grpc_refusal import raised_by
from llmserve.engines.remote.transport import Lost, Refused
from llmserve.errors import (
    BodyTooLarge,
    GenerationFailed,
    InvalidRequest,
    LLMServeError,
    NotReady,
    QueueFull,
    UpstreamFailed,
    UpstreamTimeout,
)

Status = grpc.StatusCode


def ended(status: grpc.StatusCode, words: str = "words", **trailers: str) -> AioRpcError:
    named = ((name.replace("_", "-"), value) for name, value in trailers.items())
    return AioRpcError(status, Metadata(), Metadata(*named), words)


def of(code: str) -> dict[str, str]:
    return {"llmserve_error_code": code}


@pytest.mark.parametrize("status", [Status.UNAVAILABLE, Status.CANCELLED])
@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_server_that_says_nothing_is_lost(status: grpc.StatusCode, is_accepted: bool) -> None:
    assert isinstance(raised_by(ended(status), None, is_accepted=is_accepted), Lost)


@pytest.mark.parametrize(
    ("error", "kind", "may_move"),
    [
        (ended(Status.INVALID_ARGUMENT, **of("invalid_request")), InvalidRequest, False),
        (ended(Status.UNAUTHENTICATED, **of("invalid_api_key")), UpstreamFailed, True),
        (ended(Status.NOT_FOUND, **of("model_not_found")), NotReady, True),
        (ended(Status.UNIMPLEMENTED), NotReady, True),
        (ended(Status.RESOURCE_EXHAUSTED, **of("queue_full")), QueueFull, True),
        (ended(Status.RESOURCE_EXHAUSTED, "message larger than max"), BodyTooLarge, False),
        (ended(Status.UNAVAILABLE, **of("model_loading")), NotReady, True),
        (ended(Status.INTERNAL, **of("generation_failed")), UpstreamFailed, False),
    ],
)
def test_a_refusal_moves_where_another_may_answer(
    error: AioRpcError, kind: type[LLMServeError], may_move: bool
) -> None:
    raised = raised_by(error, None, is_accepted=False)
    assert isinstance(raised, Refused)
    assert isinstance(raised.refusal.error, kind)
    assert raised.refusal.may_move is may_move


def test_a_draining_server_and_when_to_come_again() -> None:
    error = ended(Status.UNAVAILABLE, retry_after="7", **of("shutting_down"))
    raised = raised_by(error, None, is_accepted=False)
    assert isinstance(raised, Refused)
    assert raised.refusal.is_draining
    assert raised.refusal.error.retry_after_seconds == 7.0


def test_a_field_has_the_name_that_every_dialect_knows_and_the_key_is_never_told() -> None:
    error = ended(
        Status.INVALID_ARGUMENT,
        "not with secret",
        llmserve_error_param="options.sampling.top_p",
        **of("invalid_request"),
    )
    raised = raised_by(error, "secret", is_accepted=False)
    assert isinstance(raised, Refused)
    assert raised.refusal.error.param == "top_p"
    assert raised.refusal.error.message == "not with (the key)"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ended(Status.INTERNAL, **of("generation_failed")), GenerationFailed),
        (ended(Status.UNAVAILABLE, **of("shutting_down")), NotReady),
        (ended(Status.RESOURCE_EXHAUSTED, **of("queue_full")), QueueFull),
        (ended(Status.DEADLINE_EXCEEDED), UpstreamTimeout),
    ],
)
def test_in_mid_stream_it_is_the_requests_error(
    error: AioRpcError, kind: type[LLMServeError]
) -> None:
    assert isinstance(raised_by(error, None, is_accepted=True), kind)
