"""Events in, Ollama's lines out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from scripted_generation import ScriptedGeneration

from llmserve.api.ollama.writer import (
    MAX_LOGPROBS_PER_LINE,
    ChatWriter,
    GenerateWriter,
    OllamaWriter,
)
from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
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

STOP = Finish(FinishReason.STOP, Usage(3, 2))
COUNTS = {
    "total_duration": 1_500_000_000,
    "load_duration": 250_000_000,
    "prompt_eval_count": 3,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 2,
    "eval_duration": 1_000_000_000,
}


def chat(*, shows_thinking: bool = True) -> ChatWriter:
    return ChatWriter(ScriptedGeneration(), shows_thinking=shows_thinking)  # type: ignore[arg-type]


def generate() -> GenerateWriter:
    return GenerateWriter(ScriptedGeneration(), shows_thinking=True)  # type: ignore[arg-type]


def told(writer: OllamaWriter, *events: Event) -> list[dict[str, Any]]:
    return parsed([frame for event in events for frame in writer.frames(0, event)])


def parsed(frames: Sequence[bytes]) -> list[dict[str, Any]]:
    assert all(frame.endswith(b"}\n") and frame.count(b"\n") == 1 for frame in frames)
    lines = [json.loads(frame) for frame in frames]
    for said in lines:
        if "error" not in said:
            moment = datetime.fromisoformat(said.pop("created_at"))
            assert moment.utcoffset() is not None
            assert said.pop("model") == "fake"
    return lines


def test_a_failure_is_a_line_with_its_message() -> None:
    failed = Failed(GenerationFailed("it broke"), Usage())
    assert told(chat(), Delta("a", (1,)), failed)[1:] == [{"error": "it broke"}]


def test_what_says_nothing_has_no_line() -> None:
    events = (Queued(2, 1.0), Started(3), Delta("", (1,)), Cancelled(Usage()))
    assert told(chat(), *events) == []
    assert [*chat().end([Usage()])] == []


def test_a_quiet_line_is_a_piece_without_text() -> None:
    message = {"role": "assistant", "content": ""}
    assert parsed([chat().quiet_line()]) == [{"message": message, "done": False}]
    assert parsed([generate().quiet_line()]) == [{"response": "", "done": False}]


def test_the_last_line_says_how_it_ended_and_what_it_took() -> None:
    for reason, word in (
        (FinishReason.STOP, "stop"),
        (FinishReason.TOOL_CALLS, "stop"),
        (FinishReason.LENGTH, "length"),
        (FinishReason.TIMEOUT, "length"),
    ):
        finish = Finish(reason, Usage(3, 2))
        [first, last] = told(generate(), Delta("a", (1, 2)), finish)
        assert first == {"response": "a", "done": False}
        assert last == {"response": "", "done": True, "done_reason": word} | COUNTS


def test_what_it_thought_stands_beside_what_it_says() -> None:
    thought = Delta("", (1,), reasoning="hm")
    [thinking, said, _] = told(chat(), thought, Delta("yes", (2,)), STOP)
    assert thinking["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert said["message"] == {"role": "assistant", "content": "yes"}
    [last] = told(chat(shows_thinking=False), thought, STOP)
    assert last["done"]
    [thinking, _] = told(generate(), thought, STOP)
    assert thinking == {"response": "", "thinking": "hm", "done": False}


def test_a_call_is_told_when_it_is_whole() -> None:
    begun = Delta("", (1,), calls=(ToolCallDelta(0, '{"a"', id="call_1", name="f"),))
    both = Delta("", (2,), calls=(ToolCallDelta(0, ": 1}"), ToolCallDelta(1, id="c2", name="g")))
    lines = told(chat(), begun, both, Finish(FinishReason.TOOL_CALLS, Usage(3, 2)))
    assert [line["message"].get("tool_calls") for line in lines] == [
        [{"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        [{"id": "c2", "function": {"index": 1, "name": "g", "arguments": {}}}],
        None,
    ]


def test_a_call_that_was_cut_short_is_text() -> None:
    begun = Delta("", (1,), calls=(ToolCallDelta(0, '{"a"', id="call_1", name="f"),))
    cut = Finish(FinishReason.LENGTH, Usage(3, 2))
    [said, last] = told(chat(), begun, cut)
    text = '{"name": "f", "arguments": {"a"'
    assert said["message"] == {"role": "assistant", "content": text}
    assert last["done_reason"] == "length"
    answer = Answer("so: ", (1,), cut, calls=(ToolCall("call_1", "f", '{"a"'),))
    assert chat().whole([answer])["message"] == {"role": "assistant", "content": "so: " + text}


def test_a_whole_answer_is_one_object() -> None:
    calls = (ToolCall("c", "f", '{"a": 1}'),)
    body = chat().whole([Answer("yes", (1, 2), STOP, reasoning="hm", calls=calls)])
    assert body.pop("created_at").tzinfo is not None
    assert body == {
        "model": "fake",
        "message": {
            "role": "assistant",
            "content": "yes",
            "thinking": "hm",
            "tool_calls": [
                {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
            ],
        },
        "done": True,
        "done_reason": "stop",
        **COUNTS,
    }


def test_log_probabilities_come_with_their_tokens_and_not_too_many_in_a_line() -> None:
    entry = TokenLogprobs(ord("b"), float("-inf"), ((ord("c"), -0.5),))
    [said, *_] = told(chat(), Delta("b", (98,), (entry,)))
    assert said["logprobs"] == [
        {
            "token": "b",
            "logprob": -9999.0,
            "bytes": [98],
            "top_logprobs": [{"token": "c", "logprob": -0.5, "bytes": [99]}],
        }
    ]
    many = MAX_LOGPROBS_PER_LINE + 1
    first, rest = told(generate(), Delta("b" * many, (98,) * many, (entry,) * many))
    assert (len(first["logprobs"]), len(rest["logprobs"])) == (MAX_LOGPROBS_PER_LINE, 1)
    assert (first["response"], rest["response"]) == ("b" * many, "")
    whole = generate().whole([Answer("b", (98,), STOP, (entry,))])
    assert len(whole["logprobs"]) == 1
