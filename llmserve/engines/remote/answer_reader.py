"""The chunks of a streamed answer, in OpenAI's two shapes, as our deltas."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from llmserve.domain import (
    Delta,
    Finish,
    FinishReason,
    TokenLogprobs,
    ToolCallDelta,
    Usage,
)
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.refusal import error_in_stream
from llmserve.errors import UpstreamFailed
from llmserve.printable import printable

DONE: Final = b"[DONE]"
MOST_SHOWN: Final = 500
REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}
"""By OpenAI's words; `eos` is some others'."""


class AnswerReader:
    """Reads one answer. Owned by the event loop.

    Attributes:
        usage: as the upstream counted it, `None` until it has.
        is_over: whether the stream has said `[DONE]`.
    """

    def __init__(self, tokens: LearnedTokens) -> None:
        self.usage: Usage | None = None
        self.is_over = False
        self._tokens = tokens
        self._reason: str | None = None
        self._stop_reason: Any = None

    @property
    def has_ended(self) -> bool:
        """Whether it was said that no more comes."""
        return self.is_over or self._reason is not None

    def read(self, data: bytes) -> Delta | None:
        """What a chunk says; `None` if it says nothing of the answer.

        Raises:
            LLMServeError: the upstream tells an error.
            UpstreamFailed: it is no chunk.
        """
        if data.strip() == DONE:
            self.is_over = True
            return None
        try:
            chunk = orjson.loads(data)
            return self._delta(chunk)
        except (
            orjson.JSONDecodeError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            raise UpstreamFailed(
                "the server of this model sent something that is no part of an answer"
            ) from error

    def finish(self, usage: Usage) -> Finish:
        """How it ended, after the stream has; `usage` is what was counted.

        Raises:
            UpstreamFailed: it did not say so.
        """
        if self._reason is None:
            raise UpstreamFailed("the server of this model ended the answer in the middle")
        reason = REASONS.get(self._reason)
        if reason is None:
            raise UpstreamFailed(
                f"the server of this model ended the answer: {_shown(self._reason)}"
            )
        stop = self._stop_reason
        if reason is FinishReason.LENGTH and stop == "timeout":
            return Finish(FinishReason.TIMEOUT, usage)
        return Finish(
            reason,
            usage,
            stop_string=stop if isinstance(stop, str) and reason is FinishReason.STOP else None,
            stop_token=stop if isinstance(stop, int) else None,
        )

    def _delta(self, chunk: dict[str, Any]) -> Delta | None:
        if "error" in chunk:
            raise error_in_stream(chunk["error"])
        if chunk.get("usage"):
            self.usage = _usage(chunk["usage"])
        choices = chunk.get("choices")
        if not choices:
            return None
        choice = choices[0]
        if choice.get("finish_reason") is not None:
            self._reason = str(choice["finish_reason"])
            self._stop_reason = choice.get("stop_reason")
        logprobs = choice.get("logprobs")
        if "delta" not in choice:
            text = choice.get("text") or ""
            tokens = tuple(self._of_text(logprobs)) if logprobs else ()
            return Delta(_text(text), (), tokens) if text or tokens else None
        said = choice["delta"]
        text = _text(said.get("content") or said.get("refusal") or "")
        reasoning = _text(said.get("reasoning_content") or said.get("reasoning") or "")
        calls = said.get("tool_calls")
        pieces = tuple(_call(i, call) for i, call in enumerate(calls)) if calls else ()
        tokens = tuple(self._of_chat(logprobs)) if logprobs else ()
        if not (text or reasoning or pieces or tokens):
            return None
        return Delta(text, (), tokens, reasoning, pieces)

    def _of_chat(self, logprobs: dict[str, Any]) -> Iterator[TokenLogprobs]:
        for entry in logprobs.get("content") or ():
            top = tuple(
                (self._id(likely), float(likely["logprob"]))
                for likely in entry.get("top_logprobs") or ()
            )
            yield TokenLogprobs(self._id(entry), float(entry["logprob"]), top)

    def _of_text(self, logprobs: dict[str, Any]) -> Iterator[TokenLogprobs]:
        if "content" in logprobs:  # llama.cpp has one shape for both
            yield from self._of_chat(logprobs)
            return
        names: Sequence[str] = logprobs["tokens"]
        tops = logprobs.get("top_logprobs") or [None] * len(names)
        for name, logprob, top in zip(names, logprobs["token_logprobs"], tops, strict=True):
            likeliest = sorted((top or {}).items(), key=lambda pair: -pair[1])
            yield TokenLogprobs(
                self._tokens.id_of(name, name.encode(errors="replace")),
                float(logprob),
                tuple((self._tokens.id_of(t, t.encode(errors="replace")), p) for t, p in likeliest),
            )

    def _id(self, entry: dict[str, Any]) -> int:
        text = _text(entry["token"])
        utf8 = entry.get("bytes")
        own = text.encode(errors="replace") if utf8 is None else bytes(utf8)
        return self._tokens.id_of(text, own)


def _call(position: int, call: dict[str, Any]) -> ToolCallDelta:
    """Some servers send whole calls, without an index or without an id."""
    function = call.get("function") or {}
    name, arguments = function.get("name"), function.get("arguments") or ""
    if isinstance(arguments, dict):
        arguments = orjson.dumps(arguments).decode()
    call_id = call.get("id") or (f"call_{uuid.uuid4().hex[:24]}" if name else None)
    index = call.get("index")
    return ToolCallDelta(position if index is None else int(index), arguments, call_id, name)


def _usage(told: dict[str, Any]) -> Usage:
    prompt = told.get("prompt_tokens_details") or {}
    completion = told.get("completion_tokens_details") or {}
    return Usage(
        prompt_tokens=int(told.get("prompt_tokens") or 0),
        completion_tokens=int(told.get("completion_tokens") or 0),
        cached_tokens=int(prompt.get("cached_tokens") or 0),
        reasoning_tokens=int(completion.get("reasoning_tokens") or 0),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is something else")
    return value


def _shown(text: str) -> str:
    return printable(text)[:MOST_SHOWN]
