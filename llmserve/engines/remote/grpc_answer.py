"""The messages of an answer over gRPC, as our pieces of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from llmserve.domain import Delta, Finish, FinishReason, TokenLogprobs, ToolCallDelta, Usage
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.transport import Accepted, Counted, Piece
from llmserve.errors import UpstreamFailed
from llmserve.proto.v1 import generation_pb2 as pb

REASONS: Final = {
    pb.Finish.REASON_STOP: FinishReason.STOP,
    pb.Finish.REASON_LENGTH: FinishReason.LENGTH,
    pb.Finish.REASON_TIMEOUT: FinishReason.TIMEOUT,
    pb.Finish.REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
}


class GrpcAnswer:
    """Reads one answer. Owned by the event loop.

    Attributes:
        is_accepted: whether anything came.
        is_over: whether the last message came.
    """

    def __init__(self, tokens: LearnedTokens) -> None:
        self.is_accepted = False
        self.is_over = False
        self._tokens = tokens
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens = 0

    def read(self, message: pb.GenerationEvent) -> Iterator[Piece]:
        """What a message says; one of a kind that is not known says nothing.

        Raises:
            UpstreamFailed: it cannot be believed.
        """
        if not self.is_accepted:
            self.is_accepted = True
            yield Accepted()
        match message.WhichOneof("event"):
            case "started":
                self._prompt_tokens = message.started.prompt_tokens
                self._cached_tokens = message.started.cached_tokens
            case "delta":
                yield self._delta(message.delta)
                self._completion_tokens += len(message.delta.token_ids)
                # Exact at any moment, for an answer that is cancelled.
                yield Counted(
                    Usage(self._prompt_tokens, self._completion_tokens, self._cached_tokens)
                )
            case "finish":
                self.is_over = True
                usage = _usage(message.finish.usage)
                yield Counted(usage)
                yield _finish(message.finish, usage)
            case "failed":
                yield Counted(_usage(message.failed.usage))

    def _delta(self, sent: pb.Delta) -> Delta:
        calls = tuple(
            ToolCallDelta(
                piece.index,
                piece.arguments,
                piece.id if piece.HasField("id") else None,
                piece.name if piece.HasField("name") else None,
            )
            for piece in sent.tool_calls
        )
        tokens = tuple(self._logprobs(sent.logprobs)) if sent.logprobs else ()
        return Delta(sent.text, tuple(sent.token_ids), tokens, sent.reasoning, calls)

    def _logprobs(self, sent: Iterable[pb.TokenLogprobs]) -> Iterator[TokenLogprobs]:
        for told in sent:
            top = tuple((self._id(likely), likely.logprob) for likely in told.top)
            yield TokenLogprobs(self._id(told.token), told.token.logprob, top)

    def _id(self, sent: pb.TokenLogprob) -> int:
        if not sent.HasField("token_id"):  # it asks a server of another kind itself
            return self._tokens.id_of(sent.text, sent.utf8)
        self._tokens.learn(sent.token_id, sent.text, sent.utf8)
        return sent.token_id


def _finish(sent: pb.Finish, usage: Usage) -> Finish:
    reason = REASONS.get(sent.reason)
    if reason is None:
        raise UpstreamFailed(
            f"the server of this model ended the answer for a reason that is not known: "
            f"{sent.reason}"
        )
    return Finish(
        reason,
        usage,
        stop_string=sent.stop_string if sent.HasField("stop_string") else None,
        stop_token=sent.stop_token if sent.HasField("stop_token") else None,
    )


def _usage(sent: pb.Usage) -> Usage:
    return Usage(
        sent.prompt_tokens, sent.completion_tokens, sent.cached_tokens, sent.reasoning_tokens
    )
