"""From items to the messages of a conversation: an assistant's turn is several items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from llmserve.api.responses.items import (
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
    text_of,
)
from llmserve.domain import Message, ToolCall
from llmserve.errors import InvalidRequest


@dataclass(slots=True)
class _Turn:
    """An assistant's: what it thought, said and called, in this order."""

    reasoning: list[str] = field(default_factory=list)
    text: str | None = None
    calls: list[ToolCall] = field(default_factory=list)

    @property
    def has_acted(self) -> bool:
        return self.text is not None or bool(self.calls)

    def messages(self) -> Iterator[Message]:
        if self.reasoning or self.has_acted:
            yield Message(
                role="assistant",
                content=self.text or "",
                reasoning="".join(self.reasoning),
                tool_calls=tuple(self.calls),
            )


def messages_of(items: Iterable[Item]) -> Iterator[Message]:
    """Reasoning, a message of the assistant and its calls are one turn if they follow each other
    in this order."""
    turn = _Turn()
    for item in items:
        match item:
            case ReasoningItem():
                if turn.has_acted:
                    yield from turn.messages()
                    turn = _Turn()
                turn.reasoning.append(item.text)
            case MessageItem(role="assistant"):
                if turn.has_acted:
                    yield from turn.messages()
                    turn = _Turn()
                turn.text = item.text
            case FunctionCallItem():
                turn.calls.append(ToolCall(item.call_id, item.name, item.arguments))
            case MessageItem() | FunctionOutputItem():
                yield from turn.messages()
                turn = _Turn()
                yield _other(item)
    yield from turn.messages()


def check_answered(items: Iterable[Item]) -> None:
    """Check that every result is that of a call before it.

    Raises:
        InvalidRequest: it is not.
    """
    called: set[str] = set()
    for item in items:
        match item:
            case FunctionCallItem():
                called.add(item.call_id)
            case FunctionOutputItem() if item.call_id not in called:
                raise InvalidRequest(
                    f"no function_call before it has the call_id {item.call_id!r} of a "
                    "function_call_output; send the call, too, or `previous_response_id`",
                    param="input",
                )


def _other(item: MessageItem | FunctionOutputItem) -> Message:
    if isinstance(item, MessageItem):
        return Message(item.role, item.text)
    return Message("tool", text_of(item.output), tool_call_id=item.call_id)
