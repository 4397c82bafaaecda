"""The blocks of a streamed answer: one after another, numbered, each opened, filled and closed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any, Final

from llmserve.api.sse import named
from llmserve.domain import Delta, ToolCallDelta

THINKING: Final = "thinking"
TEXT: Final = "text"
TOOL_USE: Final = "tool_use"
"""The types of blocks."""


def named_event(payload: dict[str, Any]) -> bytes:
    """One event, whose name is its type."""
    return named(payload["type"], payload)


def tool_use_id(call_id: str | None) -> str:
    """The id of a call, with Anthropic's prefix; one that the model gave itself stays as it is."""
    call_id = call_id or ""
    return "toolu_" + call_id.removeprefix("call_") if call_id.startswith("call_") else call_id


class StreamBlocks:
    """Turns deltas into events. The last block stays open for more of its kind."""

    def __init__(self, signature: str, *, shows_thinking: bool) -> None:
        """`signature` is that of thinking, whose text comes only if `shows_thinking`."""
        self._signature = signature
        self._shows_thinking = shows_thinking
        self._index = -1
        self._open: str | None = None

    def frames(self, delta: Delta) -> Iterator[bytes]:
        """The events for a delta. An open call goes on before anything else begins."""
        more = list(takewhile(lambda piece: piece.name is None, delta.calls))
        for piece in more:
            yield from self._input(piece)
        if delta.reasoning:
            yield from self._enter(THINKING, {"thinking": "", "signature": ""})
            if self._shows_thinking:
                yield self._delta({"type": "thinking_delta", "thinking": delta.reasoning})
        if delta.text:
            yield from self._enter(TEXT, {"text": ""})
            yield self._delta({"type": "text_delta", "text": delta.text})
        for piece in delta.calls[len(more) :]:
            if piece.name is not None:
                known = {"id": tool_use_id(piece.id), "name": piece.name}
                yield from self._begin(TOOL_USE, {**known, "input": {}})
            yield from self._input(piece)

    def end(self) -> Iterator[bytes]:
        """The events that close the last block."""
        if self._open is None:
            return
        if self._open == THINKING:
            yield self._delta({"type": "signature_delta", "signature": self._signature})
        yield named_event({"type": "content_block_stop", "index": self._index})
        self._open = None

    def _enter(self, kind: str, block: dict[str, Any]) -> Iterator[bytes]:
        """From now on a block of this kind is open."""
        if self._open != kind:
            yield from self._begin(kind, block)

    def _begin(self, kind: str, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self.end()
        self._open = kind
        self._index += 1
        block = {"type": kind, **block}
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        yield named_event(start)

    def _input(self, piece: ToolCallDelta) -> Iterator[bytes]:
        if piece.arguments:
            yield self._delta({"type": "input_json_delta", "partial_json": piece.arguments})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_delta", "index": self._index, "delta": delta})
