"""The calls of one answer, while they are read."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from loguru import logger

from llmserve.domain import Tool, ToolCallDelta
from llmserve.text.output.closed import closed

NewId = Callable[[], str]

ALPHANUMERIC: Final = string.ascii_letters + string.digits


def openai_ids(source: random.Random) -> NewId:
    """`call_` and 24 random characters."""
    return lambda: "call_" + "".join(source.choices(ALPHANUMERIC, k=24))


def mistral_ids(source: random.Random) -> NewId:
    """Nine random characters, which Mistral's templates insist on."""
    return lambda: "".join(source.choices(ALPHANUMERIC, k=9))


class ToolCalls:
    """Numbers the calls of one answer and gives them ids. Owned by the event loop.

    A call of a tool that there is not is a call all the same, as the model wrote it: the client's
    agent expects to see it, and can tell the model. Where nothing but its name tells a call from
    text, the name must be that of a tool (`knows`).
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        emit: Callable[[ToolCallDelta], None],
        new_id: NewId,
    ) -> None:
        self._schemas = {tool.name: schema_of(tool) for tool in tools}
        self._emit = emit
        self._new_id = new_id
        self.on_begin: Callable[[], None] | None = None
        """Called when what was read turns out to be a call: set by who reads it."""
        self._ids: set[str] = set()
        self.count = 0

    def knows(self, name: str) -> bool:
        """Whether the request has a tool of this name."""
        return name in self._schemas

    def schema(self, name: str) -> Mapping[str, Any]:
        """The JSON schema of its arguments; of an unknown tool, one that says nothing."""
        return self._schemas.get(name, {})

    def begin(self, name: str, own_id: str | None = None) -> None:
        """A call begins; the model may have given it an id."""
        if not self.knows(name):
            logger.warning("the model called {!r}, which is none of the request's tools", name)
        if self.on_begin is not None:
            self.on_begin()
        call_id = own_id or self._new_id()
        while call_id in self._ids:
            call_id = self._new_id()
        self._ids.add(call_id)
        self._emit(ToolCallDelta(self.count, id=call_id, name=name))
        self.count += 1

    def arguments(self, text: str) -> None:
        """More of the arguments of the call that began last."""
        if text:
            self._emit(ToolCallDelta(self.count - 1, text))

    def malformed(self, what: str) -> None:
        """Tell the operator."""
        logger.warning("the model wrote a tool call that is malformed: {}", what)


def schema_of(tool: Tool) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, which are an object.

    Objects that declare their properties have no others, unless they say so: otherwise an answer
    that must be a call could go on with new ones for ever.
    """
    read = json.loads(tool.parameters)
    schema = {"type": "object", **(read if isinstance(read, dict) else {})}
    return schema if '"allOf"' in tool.parameters else closed(schema)


def members_of(schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The properties of an object's schema, and which are required; those are among them."""
    properties = schema.get("properties")
    required = schema.get("required")
    names = [key for key in required if isinstance(key, str)] if isinstance(required, list) else []
    declared = properties if isinstance(properties, dict) else {}
    return {**declared, **{key: {} for key in names if key not in declared}}, names
