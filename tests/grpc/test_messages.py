"""From events to messages."""

from __future__ import annotations

import pytest

from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    PromptLogprobs,
    Queued,
    Started,
    TokenLogprobs,
    ToolCallDelta,
    Usage,
)
from llmserve.errors import OutOfMemory
from llmserve.grpc.messages import MOST_TOLD, REASONS, messages_of
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.text.spelling import Spelling

USAGE = Usage(1, 2, 3, 4)
SENT_USAGE = pb.Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=3, reasoning_tokens=4)
TOLD = TokenLogprobs(97, -0.5, ((97, -0.5), (98, -1.5)), rank=1)
SENT_TOLD = pb.TokenLogprobs(
    token=pb.TokenLogprob(token_id=97, logprob=-0.5, text="a", utf8=b"a"),
    top=[
        pb.TokenLogprob(token_id=97, logprob=-0.5, text="a", utf8=b"a"),
        pb.TokenLogprob(token_id=98, logprob=-1.5, text="b", utf8=b"b"),
    ],
    rank=1,
)


def spell(token_id: int) -> Spelling:
    return Spelling(chr(token_id), bytes([token_id]))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Queued(3, None), {"queued": pb.Queued(position=3)}),
        (Queued(0, 1.5), {"queued": pb.Queued(position=0, eta_seconds=1.5)}),
        (
            Started(5, 2),
            {"started": pb.Started(prompt_tokens=5, cached_tokens=2, model="m")},
        ),
        (PromptLogprobs((TOLD,)), {"prompt_logprobs": pb.PromptLogprobs(tokens=[SENT_TOLD])}),
        (
            Delta("a", (97,), (TOLD,), "hm", (ToolCallDelta(0, "{", "c", "f"), ToolCallDelta(1))),
            {
                "delta": pb.Delta(
                    text="a",
                    token_ids=[97],
                    logprobs=[SENT_TOLD],
                    reasoning="hm",
                    tool_calls=[
                        pb.ToolCallDelta(index=0, arguments="{", id="c", name="f"),
                        pb.ToolCallDelta(index=1),
                    ],
                )
            },
        ),
        (
            Finish(FinishReason.STOP, USAGE, stop_string="x", stop_token=0),
            {
                "finish": pb.Finish(
                    reason=pb.Finish.REASON_STOP, usage=SENT_USAGE, stop_string="x", stop_token=0
                )
            },
        ),
        (
            Failed(OutOfMemory("no room"), USAGE),
            {"failed": pb.Failed(code="out_of_memory", message="no room", usage=SENT_USAGE)},
        ),
    ],
)
def test_each_event_has_its_message(event: Event, expected: dict[str, object]) -> None:
    assert messages_of(event, "m", spell) == (pb.GenerationEvent(**expected),)


def test_a_cancelled_call_has_no_last_message() -> None:
    assert messages_of(Cancelled(USAGE), "m", spell) == ()


def test_every_reason_has_a_word() -> None:
    assert REASONS.keys() == set(FinishReason)
    assert len(set(REASONS.values())) == len(REASONS)


def test_log_probabilities_of_thousands_of_tokens_are_several_messages() -> None:
    told = tuple(TokenLogprobs(n % 256, -1.0) for n in range(2 * MOST_TOLD + 1))
    parts = messages_of(PromptLogprobs(told), "m", spell)
    sizes = [len(part.prompt_logprobs.tokens) for part in parts]
    assert sizes == [MOST_TOLD, MOST_TOLD, 1]
    ids = tuple(token.token_id for token in told)
    deltas = [part.delta for part in messages_of(Delta("text", ids, told), "m", spell)]
    assert [delta.text for delta in deltas] == ["text", "", ""]
    assert [i for delta in deltas for i in delta.token_ids] == list(ids)
    assert [t.token.token_id for delta in deltas for t in delta.logprobs] == list(ids)


def test_a_message_with_many_log_probabilities_is_taken_by_clients() -> None:
    top = tuple((n, -1.0) for n in range(100, 120))
    told = tuple(TokenLogprobs(97, -1.0, top, rank=1) for _ in range(MOST_TOLD))
    [message] = messages_of(PromptLogprobs(told), "m", spell)
    assert message.ByteSize() < 2**20
