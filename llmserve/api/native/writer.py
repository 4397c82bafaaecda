"""How a generation looks as an answer of POST /generate or GET /stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmserve.api.error_shape import openai_error
from llmserve.api.native.schemas import GenerateAnswer, UsageOut, done
from llmserve.api.sse import data, named, queued_comment
from llmserve.domain import Delta, Event, Failed, Finish, Queued, Usage
from llmserve.service import Answer, Generation


class NativeWriter:
    """Writes the answer to one prompt."""

    def __init__(self, generation: Generation, *, has_id: bool = True) -> None:
        """Without `has_id`, whoever sends the frames gives them ids."""
        self._id = generation.id
        self._model = generation.model
        # In every event: not all clients remember an id that comes by itself, and some hand such
        # a frame on as an event without data.
        self._id_line = f"id: {generation.id}\n".encode() if has_id else b""

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        """A token with its text; one `done` or `error`; a comment while it waits."""
        match event:
            case Delta(text, _) if text:
                yield self._id_line + data({"token": text})
            case Queued():
                yield queued_comment(event)
            case Finish():
                yield self._id_line + named("done", done(self._id, event))
            case Failed(error, usage):
                body = openai_error(error) | {"usage": UsageOut.of(usage).model_dump()}
                yield self._id_line + named("error", body)

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        """Nothing: the terminal event was the last one."""
        return iter(())

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The text, why it ended, and the usage."""
        [answer] = answers
        return GenerateAnswer(
            id=self._id,
            model=self._model,
            result=answer.text,
            finish_reason=answer.finish.reason.value,
            usage=UsageOut.of(answer.finish.usage),
        ).model_dump()
