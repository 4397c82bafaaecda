"""One prompt's events in, the native routes' bytes out."""

from __future__ import annotations

from scripted_generation import ScriptedGeneration

from llmserve.api.native.writer import NativeWriter
from llmserve.domain import (
    Cancelled,
    Delta,
    Failed,
    Finish,
    FinishReason,
    Queued,
    Started,
    Usage,
)
from llmserve.errors import GenerationFailed
from llmserve.service import Answer

FINISH = Finish(FinishReason.TIMEOUT, Usage(3, 2))
USAGE = '{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'
DONE = f'{{"id":"r1","finish_reason":"timeout","usage":{USAGE}}}'


def writer() -> NativeWriter:
    return NativeWriter(ScriptedGeneration())  # type: ignore[arg-type]


def test_every_event_has_the_id_and_silence_has_no_event() -> None:
    for event, frames in (
        (Delta("é", (7,)), ['id: r1\ndata: {"token":"é"}\n\n']),
        (FINISH, [f"id: r1\nevent: done\ndata: {DONE}\n\n"]),
        (Queued(1, 2.0), [": queued position=1 eta_seconds=2.0\n\n"]),
        (Delta("", (7,)), []),
        (Started(3), []),
        (Cancelled(Usage()), []),
    ):
        assert [frame.decode() for frame in writer().frames(0, event)] == frames


def test_an_error_tells_what_was_used() -> None:
    [frame] = writer().frames(0, Failed(GenerationFailed("it broke"), Usage(3, 2)))
    assert frame.decode() == (
        'id: r1\nevent: error\ndata: {"error":{"message":"it broke","type":"server_error",'
        f'"param":null,"code":"generation_failed"}},"usage":{USAGE}}}\n\n'
    )


def test_nothing_comes_after_the_terminal_event() -> None:
    assert [*writer().end([Usage(3, 2)])] == []


def test_a_whole_answer() -> None:
    assert writer().whole([Answer("a", (7,), FINISH)]) == {
        "id": "r1",
        "model": "fake",
        "result": "a",
        "finish_reason": "timeout",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
