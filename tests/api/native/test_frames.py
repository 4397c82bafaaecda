"""A WebSocket's frames: one prompt's events in, what the client reads out."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.api.native.frames import PromptFrame, error_frame, event_frame, id_of
from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    Started,
    Usage,
)
from llmserve.errors import GenerationFailed, InvalidRequest

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ERROR = {"message": "no", "type": "server_error", "param": None, "code": "generation_failed"}


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        (Queued(2, None), {"type": "queued", "id": "a", "position": 2, "eta_seconds": None}),
        (Started(3), None),
        (Delta("x", (7,)), {"type": "token", "id": "a", "token": "x"}),
        (Delta("", (7,)), None),
        (
            Finish(FinishReason.LENGTH, Usage(3, 2)),
            {"type": "done", "id": "a", "finish_reason": "length", "usage": USAGE},
        ),
        (
            Cancelled(Usage(3, 2)),
            {"type": "done", "id": "a", "finish_reason": "cancelled", "usage": USAGE},
        ),
        (
            Failed(GenerationFailed("no"), Usage(3, 2)),
            {"type": "error", "id": "a", "error": ERROR},
        ),
    ],
)
def test_each_event_has_its_frame(event: Event, frame: dict[str, Any] | None) -> None:
    assert event_frame("a", event) == frame


def test_an_error_may_be_about_no_prompt_in_particular() -> None:
    assert error_frame(None, InvalidRequest("no"))["id"] is None


@pytest.mark.parametrize(
    ("content", "frame_id"),
    [({"id": "a"}, "a"), ({"id": 7}, None), ({"id": "a" * 129}, None), ([], None), ({}, None)],
)
def test_an_error_has_the_id_of_the_frame_that_it_is_about(
    content: Any, frame_id: str | None
) -> None:
    assert id_of(content) == frame_id


def test_a_prompt_frame_is_one_request() -> None:
    frame = PromptFrame.model_validate({"id": "a", "prompt": "x", "cache_salt": "s", "timeout": 9})
    [request] = frame.requests("r/a", 4)
    assert (request.id, request.prompt, request.cache_salt) == ("r/a", "x", "s")
    assert request.timeout_seconds == 4
    assert (request.defaults.max_tokens, request.defaults.temperature) == (50, 0.7)
