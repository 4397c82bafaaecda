"""The items of a response, and the events that tell how they grow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

Told = tuple[str, dict[str, Any]]
"""An event's type, and what it says beside type and number."""


class OutputItem(ABC):
    """One item while it grows. `index` is its place in the output."""

    def __init__(self, item_id: str, index: int) -> None:
        self.id = item_id
        self.index = index
        self._pieces: list[str] = []

    @property
    def whole(self) -> str:
        """All of its text so far."""
        return "".join(self._pieces)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}

    def opened(self) -> Iterator[Told]:
        """The events with which it begins."""
        item = {"output_index": self.index, "item": self.told("in_progress")}
        yield "response.output_item.added", item

    def closed(self, status: str) -> Iterator[Told]:
        """The events with which it ends."""
        yield "response.output_item.done", {"output_index": self.index, "item": self.told(status)}

    @abstractmethod
    def told(self, status: str) -> dict[str, Any]:
        """All of it, as responses tell it."""


class PartItem(OutputItem):
    """An item with one part of text. `kind` names the events about the text."""

    kind: str

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self.has_part = False

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}

    def opened(self) -> Iterator[Told]:
        yield from super().opened()
        self.has_part = True
        yield "response.content_part.added", self._place | {"part": self.part()}

    def closed(self, status: str) -> Iterator[Told]:
        yield f"response.{self.kind}.done", self._place | self._text()
        yield "response.content_part.done", self._place | {"part": self.part()}
        yield from super().closed(status)

    def _text(self) -> dict[str, Any]:
        return {"text": self.whole}

    @abstractmethod
    def part(self) -> dict[str, Any]:
        """Its part so far."""


class TextItem(PartItem):
    """A message of the assistant."""

    kind = "output_text"

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self._logprobs: list[dict[str, Any]] = []

    def grows(self, text: str, logprobs: list[dict[str, Any]]) -> Told:
        """The event of a piece of text, and the log probabilities of its tokens."""
        self._pieces.append(text)
        self._logprobs += logprobs
        return "response.output_text.delta", self._place | {"delta": text, "logprobs": logprobs}

    def part(self) -> dict[str, Any]:
        return {
            "type": "output_text",
            "text": self.whole,
            "annotations": [],
            "logprobs": list(self._logprobs),
        }

    def told(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [self.part()] if self.has_part else [],
        }

    def _text(self) -> dict[str, Any]:
        return {"text": self.whole, "logprobs": list(self._logprobs)}


class ReasoningItem(PartItem):
    """What the model thinks."""

    kind = "reasoning_text"

    def grows(self, text: str) -> Told:
        """The event of a piece of text."""
        self._pieces.append(text)
        return "response.reasoning_text.delta", self._place | {"delta": text}

    def part(self) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": self.whole}

    def told(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": [self.part()] if self.has_part else [],
            "encrypted_content": None,
        }


class CallItem(OutputItem):
    """A call of a function. `number` is its place among the calls."""

    def __init__(self, item_id: str, index: int, number: int) -> None:
        super().__init__(item_id, index)
        self.number = number
        self.call_id = ""
        self.name = ""

    def grows(self, arguments: str) -> Told:
        """The event of a piece of its arguments."""
        self._pieces.append(arguments)
        return "response.function_call_arguments.delta", self._place | {"delta": arguments}

    def closed(self, status: str) -> Iterator[Told]:
        done = self._place | {"name": self.name, "arguments": self.whole}
        yield "response.function_call_arguments.done", done
        yield from super().closed(status)

    def told(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.whole,
        }
