"""Events in, TGI's events out."""

from __future__ import annotations

import json
from typing import Any

from scripted_generation import ScriptedGeneration

from llmserve.api.tgi.body import RootBody
from llmserve.api.tgi.writer import TGIWriter
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
    Usage,
)
from llmserve.errors import GenerationFailed, QueueFull
from llmserve.service import Answer

STOP = Finish(FinishReason.STOP, Usage(3, 2))


def writer(**parameters: Any) -> TGIWriter:
    body = RootBody.model_validate({"inputs": "hey", "parameters": parameters})
    return TGIWriter(ScriptedGeneration(), body)  # type: ignore[arg-type]


def said(text: str, letters: str | None = None) -> Delta:
    """A delta whose tokens are letters, each with its likeliest neighbour."""
    ids = tuple(map(ord, text if letters is None else letters))
    return Delta(text, ids, tuple(TokenLogprobs(i, -0.5, ((i + 1, -0.25),)) for i in ids))


def told(one: TGIWriter, *events: Event) -> list[dict[str, Any]]:
    frames = [frame for event in events for frame in one.frames(0, event)]
    assert all(frame.startswith(b"data: {") and frame.endswith(b"}\n\n") for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def token(letter: str, text: str | None = None) -> dict[str, Any]:
    text = letter if text is None else text
    return {"id": ord(letter), "text": text, "logprob": -0.5, "special": False}


def test_a_failure_comes_after_the_last_token() -> None:
    failed = Failed(GenerationFailed("it broke"), Usage())
    first, error = told(writer(), said("a"), failed)
    assert first == {"index": 1, "token": token("a"), "generated_text": None, "details": None}
    assert error == {"error": "it broke", "error_type": "generation"}
    [error] = told(writer(), Failed(QueueFull("full"), Usage()))
    assert error == {"error": "full", "error_type": "overloaded"}


def test_the_last_token_has_the_whole_text_and_how_it_ended() -> None:
    for finish, reason in (
        (STOP, "eos_token"),
        (Finish(FinishReason.STOP, Usage(3, 2), "END"), "stop_sequence"),
        (Finish(FinishReason.LENGTH, Usage(3, 2)), "length"),
        (Finish(FinishReason.TIMEOUT, Usage(3, 2)), "length"),
    ):
        first, last = told(writer(seed=4), said("a"), said("b"), finish)
        assert first["generated_text"] is None
        assert last == {
            "index": 2,
            "token": token("b"),
            "generated_text": "ab",
            "details": {
                "finish_reason": reason,
                "generated_tokens": 2,
                "seed": 4,
                "input_length": 3,
            },
        }


def test_the_texts_of_the_tokens_are_the_generated_text_however_they_came() -> None:
    events = told(writer(), said("", "x"), said("ab", "ab"), said("cd", "c"), STOP)
    assert [event["index"] for event in events] == [1, 2, 3, 4]
    assert [event["token"]["text"] for event in events] == ["", "", "ab", "cd"]
    assert events[-1]["generated_text"] == "abcd"


def test_text_without_a_token_belongs_to_the_last_one() -> None:
    [last] = told(writer(), said("a"), Delta("!", ()), STOP)
    assert (last["token"], last["generated_text"]) == (token("a", "a!"), "a!")


def test_an_answer_without_tokens_has_an_event_all_the_same() -> None:
    [last] = told(writer(top_n_tokens=1), Finish(FinishReason.TIMEOUT, Usage(3)))
    assert last["token"] == {"id": 0, "text": "", "logprob": None, "special": True}
    assert (last["top_tokens"], last["generated_text"]) == ([], "")


def test_waiting_is_a_comment_and_what_says_nothing_is_nothing() -> None:
    assert [*writer().frames(0, Queued(2, None))] == [b": queued position=2\n\n"]
    assert told(writer(), Started(3), Cancelled(Usage())) == []
    assert [*writer().end([Usage()])] == []


def test_the_full_text_begins_with_the_prompt() -> None:
    [last] = told(writer(return_full_text=True), said("a"), STOP)
    assert last["generated_text"] == "heya"
    [body] = writer(return_full_text=True).whole([Answer("a", (97,), STOP)])
    assert body == {"generated_text": "heya"}


def test_the_likeliest_tokens_are_told_if_somebody_wants_them() -> None:
    [last] = told(writer(top_n_tokens=1), said("a"), STOP)
    likely = {"id": ord("b"), "text": "b", "logprob": -0.25, "special": False}
    assert last["top_tokens"] == [likely]
    answer = Answer("a", (97,), STOP, said("a").logprobs)
    [body] = writer(details=True, top_n_tokens=1).whole([answer])
    assert body["details"]["top_tokens"] == [[likely]]


def test_details_are_tokens_and_those_of_the_prompt() -> None:
    answer = Answer("a", (97,), STOP, said("a").logprobs, said("ey").logprobs)
    [body] = writer(details=True, decoder_input_details=True).whole([answer])
    assert body["details"] == {
        "finish_reason": "eos_token",
        "generated_tokens": 2,
        "seed": None,
        "prefill": [
            {"id": ord("h"), "text": "h", "logprob": None},
            {"id": ord("e"), "text": "e", "logprob": -0.5},
            {"id": ord("y"), "text": "y", "logprob": -0.5},
        ],
        "tokens": [token("a")],
    }
    [body] = writer(details=True).whole([Answer("a", (97,), STOP, said("a").logprobs)])
    assert body["details"]["prefill"] == []
