"""From events to messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

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
from llmserve.domain.events import FIRST_UNKNOWN_ID
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.text.spelling import Spelling

MOST_TOLD: Final = 512
"""Tokens with log probabilities in one message: with 20 likeliest each, a megabyte. Clients take
four, and merged deltas or a prompt have thousands."""

Spell = Callable[[int], Spelling]

REASONS: Final = {
    FinishReason.STOP: pb.Finish.REASON_STOP,
    FinishReason.LENGTH: pb.Finish.REASON_LENGTH,
    FinishReason.TIMEOUT: pb.Finish.REASON_TIMEOUT,
    FinishReason.TOOL_CALLS: pb.Finish.REASON_TOOL_CALLS,
}


def messages_of(event: Event, model: str, spell: Spell) -> Sequence[pb.GenerationEvent]:
    """The message of one event, or several where one would be too large for clients; none of a
    cancelled call, which has a status."""
    told = event.logprobs if isinstance(event, Delta) else ()
    told = event.tokens if isinstance(event, PromptLogprobs) else told
    if len(told) <= MOST_TOLD:
        message = _message(event, model, spell)
        return () if message is None else (message,)
    starts = range(0, len(told), MOST_TOLD)
    parts = [_logprobs(told[start : start + MOST_TOLD], spell) for start in starts]
    if isinstance(event, PromptLogprobs):
        return [
            pb.GenerationEvent(prompt_logprobs=pb.PromptLogprobs(tokens=part)) for part in parts
        ]
    assert isinstance(event, Delta), "nothing else has log probabilities"
    whole = _delta(replace(event, logprobs=()), spell)
    whole.logprobs.extend(parts[0])
    rest = (pb.Delta(logprobs=part) for part in parts[1:])
    return [pb.GenerationEvent(delta=delta) for delta in (whole, *rest)]


def _message(event: Event, model: str, spell: Spell) -> pb.GenerationEvent | None:
    match event:
        case Delta():
            return pb.GenerationEvent(delta=_delta(event, spell))
        case Queued(position, eta_seconds):
            return pb.GenerationEvent(queued=pb.Queued(position=position, eta_seconds=eta_seconds))
        case Started(prompt_tokens, cached_tokens):
            return pb.GenerationEvent(
                started=pb.Started(
                    prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, model=model
                )
            )
        case PromptLogprobs(tokens):
            return pb.GenerationEvent(
                prompt_logprobs=pb.PromptLogprobs(tokens=_logprobs(tokens, spell))
            )
        case Finish(reason, usage, stop_string, stop_token):
            return pb.GenerationEvent(
                finish=pb.Finish(
                    reason=REASONS[reason],
                    usage=_usage(usage),
                    stop_string=stop_string,
                    stop_token=stop_token,
                )
            )
        case Failed(error, usage):
            return pb.GenerationEvent(
                failed=pb.Failed(
                    code=error.code, message=error.message, param=error.param, usage=_usage(usage)
                )
            )
        case Cancelled():
            return None


def _delta(delta: Delta, spell: Spell) -> pb.Delta:
    message = pb.Delta(text=delta.text, token_ids=delta.token_ids)
    if delta.reasoning:
        message.reasoning = delta.reasoning
    if delta.logprobs:
        message.logprobs.extend(_logprobs(delta.logprobs, spell))
    if delta.calls:
        message.tool_calls.extend(map(_call, delta.calls))
    return message


def _call(piece: ToolCallDelta) -> pb.ToolCallDelta:
    return pb.ToolCallDelta(
        index=piece.index, arguments=piece.arguments, id=piece.id, name=piece.name
    )


def _logprobs(tokens: Iterable[TokenLogprobs], spell: Spell) -> list[pb.TokenLogprobs]:
    return [
        pb.TokenLogprobs(
            token=_logprob(told.token_id, told.logprob, spell),
            top=[_logprob(token_id, logprob, spell) for token_id, logprob in told.top],
            rank=told.rank,
        )
        for told in tokens
    ]


def _logprob(token_id: int, logprob: float, spell: Spell) -> pb.TokenLogprob:
    spelling = spell(token_id)
    return pb.TokenLogprob(
        token_id=token_id if token_id < FIRST_UNKNOWN_ID else None,
        logprob=logprob,
        text=spelling.text,
        utf8=spelling.utf8,
    )


def _usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
