"""The frames of a WebSocket.

Client to server:
    {"id": "a", "prompt": "…", …}        the fields of POST /generate
    {"type": "cancel", "id": "a"}
Server to client, for each id any number of the first two, then one of the others:
    {"type": "queued", "id", "position", "eta_seconds"}
    {"type": "token", "id", "token"}
    {"type": "done", "id", "finish_reason", "usage"}      finish_reason may be "cancelled"
    {"type": "error", "id", "error": {…}}                 id is null when it is not known
The last frame of an id also has `ignored_fields`, if there were any.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from llmserve.api.error_shape import openai_error
from llmserve.api.fields import Fields
from llmserve.api.native.schemas import PromptBody, done
from llmserve.domain import Cancelled, Delta, Event, Failed, Finish, Queued
from llmserve.errors import LLMServeError

MAX_ID_LENGTH: Final = 128
FrameId = Annotated[
    str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
]


class PromptFrame(PromptBody):
    """One prompt."""

    type: Literal["generate"] = "generate"
    id: FrameId


class CancelFrame(Fields):
    """End one of this socket's generations."""

    type: Literal["cancel"]
    id: FrameId


def event_frame(frame_id: str, event: Event) -> dict[str, Any] | None:
    """The frame for one event; `None` where the client need not know."""
    match event:
        case Delta(text, _) if text:
            return {"type": "token", "id": frame_id, "token": text}
        case Queued(position, eta):
            return {"type": "queued", "id": frame_id, "position": position, "eta_seconds": eta}
        case Finish() | Cancelled():
            return {"type": "done"} | done(frame_id, event)
        case Failed(error, _):
            return error_frame(frame_id, error)
    return None


def error_frame(frame_id: str | None, error: LLMServeError) -> dict[str, Any]:
    """The frame for an error."""
    return {"type": "error", "id": frame_id} | openai_error(error)


def id_of(content: Any) -> str | None:
    """The id that an error about a client's frame should carry, if the frame has one."""
    frame_id = content.get("id") if isinstance(content, dict) else None
    return frame_id if isinstance(frame_id, str) and len(frame_id) <= MAX_ID_LENGTH else None
