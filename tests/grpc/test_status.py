"""Every error has a status, and tells programs what it is."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from llmserve import errors
from llmserve.errors import InvalidRequest, LLMServeError, ModelLoading
from llmserve.grpc.status import status_of, trailers_of


def tree(root: type[LLMServeError]) -> Iterator[type[LLMServeError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def made(kind: type[LLMServeError]) -> LLMServeError:
    error = kind.__new__(kind)
    LLMServeError.__init__(error, "words")
    return error


@pytest.mark.parametrize("kind", [*tree(LLMServeError)], ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_own_side(kind: type[LLMServeError]) -> None:
    status = status_of(made(kind))
    assert status not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}
    of_server = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
    if status is not grpc.StatusCode.DEADLINE_EXCEEDED:  # which either may miss
        assert (status in of_server) is (kind.status >= 500)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.Unauthorized, grpc.StatusCode.UNAUTHENTICATED),
        (errors.Forbidden, grpc.StatusCode.PERMISSION_DENIED),
        (errors.ModelNotFound, grpc.StatusCode.NOT_FOUND),
        (errors.QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeadlineUnreachable, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.BodyTimeout, grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.WaitTimeout, grpc.StatusCode.UNAVAILABLE),
        (errors.ModelLoading, grpc.StatusCode.UNAVAILABLE),
        (errors.GenerationFailed, grpc.StatusCode.INTERNAL),
    ],
)
def test_the_status_is_the_one_that_clients_act_upon(
    kind: type[LLMServeError], status: grpc.StatusCode
) -> None:
    assert status_of(made(kind)) is status


def test_trailers_are_ascii_whatever_a_client_called_its_field() -> None:
    error = InvalidRequest("words", param="messages[3].größe\n" + "x" * 1000)
    told = dict(trailers_of(error))
    assert told["llmserve-error-code"] == "invalid_request"
    assert told["llmserve-error-param"].startswith("messages[3].gr%C3%B6%C3%9Fe%0Axx")
    assert len(told["llmserve-error-param"]) < 300


def test_a_time_to_come_again_is_rounded_up() -> None:
    error = ModelLoading("words", retry_after_seconds=1.2)
    assert dict(trailers_of(error)) == {
        "llmserve-error-code": "model_loading",
        "retry-after": "2",
    }
