"""A chat's events in, OpenAI's bytes out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from scripted_generation import ScriptedGeneration

from llmserve.api.openai.chat_writer import ChatWriter
from llmserve.api.openai.shown import TEXT_AND_LOGPROBS, Shown, UsageWanted
from llmserve.domain import (
    Cancelled,
    Delta,
    Failed,
    Finish,
    FinishReason,
    Queued,
    Started,
    TokenLogprobs,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from llmserve.errors import GenerationFailed
from llmserve.service import Answer

ROLE = {"role": "assistant", "content": ""}


def writer(
    count: int = 1, choices_per_prompt: int = 1, *, shown: Shown = TEXT_AND_LOGPROBS
) -> ChatWriter:
    generations = [ScriptedGeneration() for _ in range(count)]
    return ChatWriter(generations, choices_per_prompt=choices_per_prompt, shown=shown)  # type: ignore[arg-type]


def parsed(frames: Sequence[bytes]) -> list[dict[str, Any]]:
    assert all(frame.startswith(b"data: {") and frame.endswith(b"}\n\n") for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def test_the_role_comes_first_and_once_for_each_choice() -> None:
    chat = writer(2)
    first = parsed([*chat.frames(0, Started(3)), *chat.frames(1, Delta("a", (7,)))])
    later = parsed([*chat.frames(0, Delta("b", (8,))), *chat.frames(1, Delta("c", (9,)))])
    choices = [chunk["choices"] for chunk in first + later]
    assert [(c["index"], c["delta"], c["finish_reason"]) for [c] in choices] == [
        (0, ROLE, None),
        (1, ROLE, None),
        (1, {"content": "a"}, None),
        (0, {"content": "b"}, None),
        (1, {"content": "c"}, None),
    ]
    for chunk in first + later:
        assert isinstance(chunk["created"], int)
        assert chunk | {"choices": [], "created": 0} == {
            "id": "chatcmpl-r1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "fake",
            "system_fingerprint": "fp_1",
            "choices": [],
        }


def test_the_finish_reason_has_a_chunk_of_its_own() -> None:
    for finish, reason, stop_reason in (
        (Finish(FinishReason.STOP, Usage()), "stop", None),
        (Finish(FinishReason.STOP, Usage(), "END"), "stop", "END"),
        (Finish(FinishReason.STOP, Usage(), stop_token=0), "stop", 0),
        (Finish(FinishReason.LENGTH, Usage()), "length", None),
        (Finish(FinishReason.TIMEOUT, Usage()), "length", "timeout"),
    ):
        [_, last] = parsed([*writer().frames(0, finish)])
        assert last["choices"] == [
            {
                "index": 0,
                "delta": {},
                "logprobs": None,
                "finish_reason": reason,
                "stop_reason": stop_reason,
            }
        ]


def test_waiting_is_a_comment_and_opens_nothing() -> None:
    chat = writer()
    assert [*chat.frames(0, Queued(2, 1.25))] == [b": queued position=2 eta_seconds=1.2\n\n"]
    assert [*chat.frames(0, Queued(1, None))] == [b": queued position=1\n\n"]
    assert len([*chat.frames(0, Started(3))]) == 1


def test_an_error_is_an_object_in_place_of_a_chunk() -> None:
    [error] = parsed([*writer().frames(0, Failed(GenerationFailed("it broke"), Usage()))])
    assert error == {
        "error": {
            "message": "it broke",
            "type": "server_error",
            "param": None,
            "code": "generation_failed",
        }
    }


def test_a_cancelled_choice_has_no_finish_reason() -> None:
    [role] = parsed([*writer().frames(0, Cancelled(Usage()))])
    assert role["choices"][0]["finish_reason"] is None


def test_done_is_last_and_before_it_the_usage_if_it_is_wanted() -> None:
    usages = [Usage(3, 1, 2), Usage(3, 4, 3)]
    assert [*writer(2).end(usages)] == [b"data: [DONE]\n\n"]
    chat = writer(2, 2, shown=Shown(usage=UsageWanted.AT_THE_END))
    [_, piece] = parsed([*chat.frames(0, Delta("a", (7,)))])
    assert piece["usage"] is None
    *chunks, done = chat.end(usages)
    [chunk] = parsed(chunks)
    assert chunk["choices"] == []
    assert chunk["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert done == b"data: [DONE]\n\n"


def test_a_whole_answer_has_every_choice_and_counts_a_prompt_once() -> None:
    told = TokenLogprobs(ord("b"), -0.5)
    finish = Finish(FinishReason.STOP, Usage(3, 1))
    answers = [Answer("a", (7,), finish), Answer("b", (8,), finish, (told,))]
    body = writer(2, 2).whole(answers)
    assert list(body) == [
        "id", "object", "created", "model", "system_fingerprint", "choices", "usage",
    ]  # fmt: skip
    assert (body["id"], body["object"]) == ("chatcmpl-r1", "chat.completion")
    assert [choice["message"] for choice in body["choices"]] == [
        {"role": "assistant", "content": text, "refusal": None} for text in ("a", "b")
    ]
    entry = {"token": "b", "logprob": -0.5, "bytes": [98], "top_logprobs": []}
    assert [choice["logprobs"] for choice in body["choices"]] == [
        None,
        {"content": [entry], "refusal": None},
    ]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 2)


def deltas(chat: ChatWriter, *events: Delta | Finish) -> list[dict[str, Any]]:
    chunks = [chunk for event in events for chunk in parsed([*chat.frames(0, event)])]
    return [chunk["choices"][0]["delta"] for chunk in chunks][1:]


CALLS = (
    Delta("", (1,), calls=(ToolCallDelta(0, id="call_1", name="f"),)),
    Delta("", (2,), calls=(ToolCallDelta(0, '{"a"'), ToolCallDelta(0, ": 1}"))),
    Delta("", (3,), calls=(ToolCallDelta(1, "{}", id="call_2", name="g"),)),
)


def test_a_call_begins_with_its_name_and_goes_on_with_its_arguments() -> None:
    finish = Finish(FinishReason.TOOL_CALLS, Usage())
    first, more, other, last = deltas(writer(), *CALLS, finish)
    assert first == {
        "tool_calls": [
            {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": "f", "arguments": ""},
            }
        ]
    }
    assert more["tool_calls"] == [
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    assert other["tool_calls"][0]["index"] == 1
    assert last == {}
    [_, closing] = parsed([*writer().frames(0, finish)])
    assert closing["choices"][0]["finish_reason"] == "tool_calls"


def test_what_it_thought_is_beside_what_it_says() -> None:
    thinking, both, said = deltas(
        writer(),
        Delta("", (1,), reasoning="hm"),
        Delta("so", (2,), reasoning="!"),
        Delta("yes", (3,)),
    )
    assert thinking == {"reasoning_content": "hm", "reasoning": "hm"}
    assert both == {"content": "so", "reasoning_content": "!", "reasoning": "!"}
    assert said == {"content": "yes"}


def test_who_does_not_want_the_thoughts_gets_no_empty_chunks_for_them() -> None:
    chat = writer(shown=Shown(reasoning=False))
    assert deltas(chat, Delta("", (1,), reasoning="hm"), Delta("yes", (2,))) == [{"content": "yes"}]
    answer = Answer("yes", (1, 2), Finish(FinishReason.STOP, Usage()), reasoning="hm")
    [choice] = chat.whole([answer])["choices"]
    assert choice["message"] == {"role": "assistant", "content": "yes", "refusal": None}


def test_a_client_that_knows_functions_alone_gets_one_call_in_its_form() -> None:
    chat = writer(shown=Shown(older_calls=True))
    first, more = deltas(chat, *CALLS)
    assert first == {"function_call": {"name": "f", "arguments": ""}}
    assert more == {"function_call": {"arguments": '{"a": 1}'}}
    finish = Finish(FinishReason.TOOL_CALLS, Usage())
    answer = Answer("", (1,), finish, calls=(ToolCall("c", "f", "{}"), ToolCall("d", "g", "{}")))
    [choice] = chat.whole([answer])["choices"]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "function_call")


def test_calls_of_a_whole_answer_have_their_ids() -> None:
    finish = Finish(FinishReason.TOOL_CALLS, Usage(3, 5, reasoning_tokens=2))
    answer = Answer("", (1,), finish, reasoning="hm", calls=(ToolCall("c", "f", '{"a": 1}'),))
    body = writer().whole([answer])
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        ],
        "reasoning_content": "hm",
        "reasoning": "hm",
    }
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


def test_every_chunk_may_have_the_usage_so_far() -> None:
    chat = writer(shown=Shown(usage=UsageWanted.IN_EVERY_CHUNK))
    events = (Delta("a", (7, 8)), Delta("b", (9,)), Finish(FinishReason.STOP, Usage(3, 4)))
    chunks = parsed([frame for event in events for frame in chat.frames(0, event)])
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 2, 3, 4]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {3}
    [usage] = parsed([*chat.end([Usage(3, 4)])][:1])
    assert usage["usage"]["total_tokens"] == 7
