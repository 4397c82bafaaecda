"""The frames of a chat on a WebSocket: a prompt is the body of POST /v1/chat/completions with an
`id`, and its answer these frames:

{"type": "chunk", "id", "chunk": {…}}                 a chat.completion.chunk
{"type": "done", "id", "finish_reason"}               may be "cancelled"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import orjson

from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.chat_writer import ChatWriter
from llmserve.api.openai.choices_writer import DONE
from llmserve.api.socket_frames import Frame, FrameWriter, SocketPrompt, error_frame
from llmserve.api.sse import payload_of
from llmserve.domain import Cancelled, Event, Failed, Finish, Usage
from llmserve.service import Generation


class ChatFrame(ChatBody, SocketPrompt):
    """One conversation to be continued. It is always streamed, and has one answer."""

    type: Literal["chat"] = "chat"
    stream: Literal[True] = True
    n: Literal[1] | None = None

    def writer(self, generation: Generation) -> FrameWriter:
        """What writes its answer."""
        return _Writer(self, generation).frames


class _Writer:
    def __init__(self, frame: ChatFrame, generation: Generation) -> None:
        self._id = frame.id
        self._writer = ChatWriter([generation], choices_per_prompt=1, shown=frame.shown)

    def frames(self, event: Event) -> Iterator[Frame]:
        """The chunks of an event, and what ends the answer."""
        if isinstance(event, Failed):
            yield error_frame(self._id, event.error)
            return
        yield from map(self._chunk, self._writer.frames(0, event))
        match event:
            case Finish(reason=reason, usage=usage):
                yield from self._end(usage, self._writer.finish_reason(reason))
            case Cancelled(usage=usage):
                yield from self._end(usage, "cancelled")

    def _end(self, usage: Usage, reason: str) -> Iterator[Frame]:
        yield from (self._chunk(one) for one in self._writer.end([usage]) if one != DONE)
        yield {"type": "done", "id": self._id, "finish_reason": reason}

    def _chunk(self, event: bytes) -> Frame:
        # The chunk is JSON already.
        return {"type": "chunk", "id": self._id, "chunk": orjson.Fragment(payload_of(event))}
