"""A chat on a WebSocket: one conversation's events in, frames out."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from pydantic import ValidationError
from scripted_generation import ScriptedGeneration

from llmserve.api.openai.chat_frames import ChatFrame
from llmserve.domain import Cancelled, Delta, Event, Failed, Finish, FinishReason, Usage
from llmserve.errors import GenerationFailed

CHAT = {"id": "a", "messages": [{"role": "user", "content": "hi"}]}


def frames(*events: Event, **fields: Any) -> list[dict[str, Any]]:
    write = ChatFrame.model_validate(CHAT | fields).writer(ScriptedGeneration())  # type: ignore[arg-type]
    written = [frame for event in events for frame in write(event)]
    told: list[dict[str, Any]] = json.loads(orjson.dumps(written))
    assert all(frame["id"] == "a" for frame in told)
    return told


@pytest.mark.parametrize("field", [{"n": 2}, {"stream": False}, {"prompt_logprobs": 1}])
def test_what_a_socket_cannot_tell_is_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refusal:
        ChatFrame.model_validate(CHAT | field)
    assert [error["loc"] for error in refusal.value.errors()] == [tuple(field)]


def test_an_answer_is_chunks_and_one_end() -> None:
    usage = Usage(3, 2)
    options = {"stream_options": {"include_usage": True}}
    told = frames(Delta("a", (7,)), Finish(FinishReason.TIMEOUT, usage), **options)
    assert [frame["type"] for frame in told] == ["chunk"] * 4 + ["done"]
    chunks = [frame["chunk"] for frame in told[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[1]["choices"][0]["delta"] == {"content": "a"}
    assert chunks[3]["usage"]["completion_tokens"] == 2
    assert told[-1]["finish_reason"] == "length"


def test_a_cancelled_answer_says_so() -> None:
    told = frames(Delta("a", (7,)), Cancelled(Usage(3, 1)))
    assert told[-1] == {"type": "done", "id": "a", "finish_reason": "cancelled"}


def test_a_failure_is_the_last_frame() -> None:
    told = frames(Failed(GenerationFailed("no"), Usage(3, 0)))
    assert [(frame["type"], frame["status"]) for frame in told] == [("error", 500)]
