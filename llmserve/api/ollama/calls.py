"""Tool calls put together from their pieces: Ollama tells a call when it is whole, with its
arguments as an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from llmserve.domain import ToolCall, ToolCallDelta


class Told(NamedTuple):
    """Whole calls, and the text of those that are none: an answer that was cut short has a call
    whose arguments are no object."""

    calls: list[dict[str, Any]]
    text: str


class CallsSoFar:
    """The calls of one answer. A call is whole when another begins, or the answer ends."""

    def __init__(self) -> None:
        self._index = 0
        self._pieces: list[ToolCallDelta] = []

    def add(self, pieces: Sequence[ToolCallDelta]) -> Told:
        """Those that are whole now."""
        whole = []
        for piece in pieces:
            if self._pieces and piece.index != self._pieces[0].index:
                whole.append(self._take())
            self._pieces.append(piece)
        return self._told(whole)

    def end(self) -> Told:
        """The last one, if there is one."""
        return self._told([self._take()] if self._pieces else [])

    def all(self, calls: Sequence[ToolCall]) -> Told:
        """Those of an answer that has ended."""
        return self._told(calls)

    def _take(self) -> ToolCall:
        pieces, self._pieces = self._pieces, []
        return ToolCall(
            id=pieces[0].id or "",
            name=pieces[0].name or "",
            arguments="".join(piece.arguments for piece in pieces),
        )

    def _told(self, calls: Sequence[ToolCall]) -> Told:
        told, text = [], ""
        for call in calls:
            arguments = _object(call.arguments)
            if arguments is None:
                name = orjson.dumps(call.name).decode()
                text += f'{{"name": {name}, "arguments": {call.arguments}'
                continue
            function = {"index": self._index, "name": call.name, "arguments": arguments}
            told.append({"id": call.id, "function": function})
            self._index += 1
        return Told(told, text)


def _object(arguments: str) -> dict[str, Any] | None:
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
