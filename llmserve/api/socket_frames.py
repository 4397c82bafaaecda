"""The frames of a WebSocket that all dialects share.

Client to server:
    {"id": "a", …}                       a prompt, in the words of its dialect
    {"type": "cancel", "id": "a"}
Server to client, for each id any number of the first two, then one of the others:
    {"type": "queued", "id", "position", "eta_seconds"}
    more of the answer, in the words of the dialect
    {"type": "done", "id", …}
    {"type": "error", "id", "error": {…}, "status"}       id is null when it is not known; some
                                                          have `retry_after` in seconds
The last frame of an id also has `ignored_fields`, if there were any.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from llmserve.api.error_shape import openai_error
from llmserve.api.fields import Fields
from llmserve.api.generation_body import GenerationBody
from llmserve.domain import Event, Queued
from llmserve.errors import LLMServeError
from llmserve.service import Generation

MAX_ID_LENGTH: Final = 128
FrameId = Annotated[
    str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
]
Frame = dict[str, Any]
FrameWriter = Callable[[Event], Iterator[Frame]]
"""The frames for one event but `Queued`; the last one of a terminal event is `done` or `error`."""


class SocketPrompt(GenerationBody):
    """One prompt; `requests` makes one request."""

    id: FrameId

    @abstractmethod
    def writer(self, generation: Generation) -> FrameWriter:
        """What writes its answer."""


class CancelFrame(Fields):
    """End one of this socket's generations."""

    type: Literal["cancel"]
    id: FrameId


def queued_frame(frame_id: str, event: Queued) -> Frame:
    """The frame that tells a waiting client its position in the queue."""
    position, eta = event.position, event.eta_seconds
    return {"type": "queued", "id": frame_id, "position": position, "eta_seconds": eta}


def error_frame(frame_id: str | None, error: LLMServeError) -> Frame:
    """The frame for an error, with what an HTTP response would have as status and header."""
    frame = {"type": "error", "id": frame_id, "status": error.status} | openai_error(error)
    if error.retry_after_seconds is not None:
        frame["retry_after"] = math.ceil(error.retry_after_seconds)
    return frame


def id_of(content: Any) -> str | None:
    """The id that an error about a client's frame should carry, if the frame has one."""
    frame_id = content.get("id") if isinstance(content, dict) else None
    return frame_id if isinstance(frame_id, str) and len(frame_id) <= MAX_ID_LENGTH else None
