"""What was read of an answer since its last delta."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llmserve.domain import Delta, ToolCallDelta


@dataclass(slots=True)
class Pieces:
    """Collects what readers find."""

    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _calls: list[ToolCallDelta] = field(default_factory=list)

    def add_text(self, text: str) -> None:
        """Text of the answer."""
        self._text.append(text)

    def add_reasoning(self, text: str) -> None:
        """Text before the answer."""
        self._reasoning.append(text)

    def add_call(self, piece: ToolCallDelta) -> None:
        """A piece of a call; pieces of the same call are joined."""
        if self._calls and self._calls[-1].index == piece.index and piece.id is None:
            last = self._calls[-1]
            self._calls[-1] = replace(last, arguments=last.arguments + piece.arguments)
        else:
            self._calls.append(piece)

    def taken(self) -> Delta:
        """All of it as one delta without tokens; nothing is left."""
        delta = Delta(
            "".join(self._text),
            (),
            reasoning="".join(self._reasoning),
            calls=tuple(self._calls),
        )
        self._text.clear()
        self._reasoning.clear()
        self._calls.clear()
        return delta
