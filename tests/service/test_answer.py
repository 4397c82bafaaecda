"""Events in, one answer out."""

from __future__ import annotations

from llmserve.domain import (
    Delta,
    Finish,
    FinishReason,
    PromptLogprobs,
    Queued,
    SamplingParams,
    Started,
    TokenLogprobs,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from llmserve.service.answer import Collector

FINISH = Finish(FinishReason.STOP, Usage(3, 4))
A, B, C = (TokenLogprobs(i, -float(i)) for i in (1, 2, 3))


def test_pieces_come_together_in_their_order() -> None:
    collector = Collector()
    for event in (
        Queued(1, None),
        Started(3),
        PromptLogprobs((A,)),
        PromptLogprobs((B,)),
        Delta("", (5,), (C,), reasoning="h"),
        Delta("x", (6,), (A,), reasoning="m"),
        Delta("", (7,), (B,), calls=(ToolCallDelta(0, id="a", name="f"), ToolCallDelta(0, "{"))),
        Delta("y", (8,), calls=(ToolCallDelta(1, "[]", id="b", name="g"), ToolCallDelta(0, "}"))),
    ):
        collector.add(event)
    answer = collector.answer(FINISH, SamplingParams(logprobs=0, prompt_logprobs=0))
    assert (answer.text, answer.reasoning, answer.token_ids) == ("xy", "hm", (5, 6, 7, 8))
    assert answer.calls == (ToolCall("a", "f", "{}"), ToolCall("b", "g", "[]"))
    assert (answer.logprobs, answer.prompt_logprobs) == ((C, A, B), (A, B))
    assert answer.finish is FINISH


def test_numbers_that_nobody_asked_for_are_none_and_not_empty() -> None:
    answer = Collector().answer(FINISH, SamplingParams())
    assert (answer.logprobs, answer.prompt_logprobs) == (None, None)
    asked = Collector().answer(FINISH, SamplingParams(logprobs=0, prompt_logprobs=0))
    assert (asked.logprobs, asked.prompt_logprobs) == ((), ())
