"""The frames of `/ws`: a prompt has the fields of POST /generate, and its answer these frames:

{"type": "token", "id", "token"}
{"type": "done", "id", "finish_reason", "usage"}      finish_reason may be "cancelled"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from llmserve.api.native.schemas import PromptBody, done
from llmserve.api.socket_frames import Frame, FrameWriter, SocketPrompt, error_frame
from llmserve.domain import Cancelled, Delta, Event, Failed, Finish
from llmserve.service import Generation


class PromptFrame(PromptBody, SocketPrompt):
    """One prompt."""

    type: Literal["generate"] = "generate"

    def writer(self, generation: Generation) -> FrameWriter:
        """What writes its answer."""
        return self.frames

    def frames(self, event: Event) -> Iterator[Frame]:
        """The frame for one event, where the client need know it."""
        match event:
            case Delta(text, _) if text:
                yield {"type": "token", "id": self.id, "token": text}
            case Finish() | Cancelled():
                yield {"type": "done"} | done(self.id, event)
            case Failed(error, _):
                yield error_frame(self.id, error)
