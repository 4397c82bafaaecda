"""The input of a response, as the API lists it and as it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from llmserve.api.responses.items import (
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
    RefusalPart,
    TextPart,
    ThoughtPart,
)
from llmserve.storage.stored import Stored

ITEMS: Final[TypeAdapter[list[Item]]] = TypeAdapter(list[Item])

PREFIXES: Final = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


def listed(items: Iterable[Item], response_hex: str) -> list[dict[str, Any]]:
    """Each with an id: its own, or one by which it can be referred to."""
    return [
        _told(item) | {"id": item.id or f"{PREFIXES[item.type]}_{response_hex}_in{number}"}
        for number, item in enumerate(items)
    ]


def history(conversation: Sequence[Stored]) -> list[Item]:
    """What was said in these responses, in order: the input of each, and its output."""
    told: list[dict[str, Any]] = []
    for stored in conversation:
        told += orjson.loads(stored.items)
        told += orjson.loads(stored.response)["output"]
    return ITEMS.validate_python(told)


def _told(item: Item) -> dict[str, Any]:
    match item:
        case MessageItem():
            return {
                "type": "message",
                "role": item.role,
                "status": "completed",
                "content": _parts(item.content, is_answer=item.role == "assistant"),
            }
        case FunctionCallItem():
            named = {"call_id": item.call_id, "name": item.name, "arguments": item.arguments}
            return {"type": item.type, "status": "completed"} | named
        case FunctionOutputItem():
            output = item.output
            told = output if isinstance(output, str) else _parts(output, is_answer=False)
            return {
                "type": item.type,
                "status": "completed",
                "call_id": item.call_id,
                "output": told,
            }
        case ReasoningItem():
            return {
                "type": item.type,
                "summary": [_thought(part) for part in item.summary or ()],
                "content": [_thought(part) for part in item.content or ()],
            }
    raise AssertionError(f"{item.type} items stand for others")


def _thought(part: ThoughtPart) -> dict[str, str]:
    return {"type": part.type, "text": part.text}


def _parts(
    content: str | Sequence[TextPart | RefusalPart], *, is_answer: bool
) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text(content, is_answer=is_answer)]
    return [
        {"type": "refusal", "refusal": part.refusal}
        if isinstance(part, RefusalPart)
        else _text(part.text, is_answer=is_answer)
        for part in content
    ]


def _text(text: str, *, is_answer: bool) -> dict[str, Any]:
    if is_answer:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}
