"""A WebSocket's frames: one prompt's events in, what the client reads out."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.api.native.frames import PromptFrame
from llmserve.api.socket_frames import error_frame, id_of, queued_frame
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
from llmserve.errors import GenerationFailed, InvalidRequest, QueueFull

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ERROR = {"message": "no", "type": "server_error", "param": None, "code": "generation_failed"}


@pytest.mark.parametrize(
    ("event", "frame"),
    [
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
            {"type": "error", "id": "a", "error": ERROR, "status": 500},
        ),
    ],
)
def test_each_event_has_its_frame(event: Event, frame: dict[str, Any] | None) -> None:
    prompt = PromptFrame.model_validate({"id": "a", "prompt": "x"})
    assert list(prompt.frames(event)) == ([] if frame is None else [frame])


def test_who_waits_is_told_its_place() -> None:
    told = queued_frame("a", Queued(2, 1.5))
    assert told == {"type": "queued", "id": "a", "position": 2, "eta_seconds": 1.5}


def test_an_error_may_be_about_no_prompt_in_particular() -> None:
    frame = error_frame(None, InvalidRequest("no"))
    assert (frame["id"], frame["status"], "retry_after" in frame) == (None, 400, False)


def test_an_error_says_when_to_come_back() -> None:
    full = QueueFull("no", retry_after_seconds=1.2)
    assert (full.status, error_frame("a", full)["retry_after"]) == (429, 2)


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
