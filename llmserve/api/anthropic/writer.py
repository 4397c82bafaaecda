"""How a generation looks as an answer of POST /v1/messages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import orjson
from sse_starlette import ServerSentEvent

from llmserve.api.anthropic.error import anthropic_error
from llmserve.api.anthropic.stream_blocks import StreamBlocks, named_event, tool_use_id
from llmserve.api.sse import queued_comment
from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    Started,
    ToolCall,
    Usage,
)
from llmserve.service import Answer, Generation

PING: Final = {"type": "ping"}
REASONS: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TIMEOUT: "max_tokens",  # there is no word for a deadline, which cuts short, too
    FinishReason.TOOL_CALLS: "tool_use",
}
NO_END: Final = {"stop_reason": None, "stop_sequence": None}


def ping() -> ServerSentEvent:
    """What a quiet stream is sent."""
    return ServerSentEvent(event="ping", data=orjson.dumps(PING).decode(), sep="\n")


class MessageWriter:
    """Writes the message that answers one request.

    A stream has its opening (`message_start` and a ping), the blocks one after another, then why it
    ended with the usage (`message_delta`), then `message_stop`; or an `error` in whichever place.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        stop_sequences: Collection[str] = (),
        shows_thinking: bool = True,
    ) -> None:
        """`stop_sequences` are the request's: a model may have strings of its own that end it."""
        self._id = "msg_" + generation.id
        self._model = generation.model
        self._prompt_tokens = generation.prompt_tokens
        self._stop_sequences = stop_sequences
        self._shows_thinking = shows_thinking
        self._blocks = StreamBlocks(self._id, shows_thinking=shows_thinking)
        self._is_open = False

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        """Their events for one of ours; a comment while it waits."""
        if isinstance(event, Queued):
            yield queued_comment(event)
            return
        if isinstance(event, Failed):
            yield named_event(anthropic_error(event.error))
            return
        if not self._is_open:
            self._is_open = True
            yield from self._opening(event.cached_tokens if isinstance(event, Started) else 0)
        match event:
            case Delta():
                yield from self._blocks.frames(event)
            case Finish():
                yield from self._closing(self._end(event), event.usage)
            case Cancelled(usage):
                yield from self._closing(NO_END, usage)

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        """Nothing: the terminal event was the last one."""
        return iter(())

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The message."""
        [answer] = answers
        return self._message(list(self._content(answer)), self._end(answer.finish)) | {
            "usage": _usage(answer.finish.usage)
        }

    def _opening(self, cached_tokens: int) -> Iterator[bytes]:
        usage = _usage(Usage(prompt_tokens=self._prompt_tokens, cached_tokens=cached_tokens))
        message = self._message([], NO_END) | {"usage": usage}
        yield named_event({"type": "message_start", "message": message})
        yield named_event(PING)

    def _closing(self, end: dict[str, Any], usage: Usage) -> Iterator[bytes]:
        yield from self._blocks.end()
        yield named_event({"type": "message_delta", "delta": end, "usage": _usage(usage)})
        yield named_event({"type": "message_stop"})

    def _message(self, content: list[dict[str, Any]], end: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **end,
        }

    def _content(self, answer: Answer) -> Iterator[dict[str, Any]]:
        if answer.reasoning:
            text = answer.reasoning if self._shows_thinking else ""
            yield {"type": "thinking", "thinking": text, "signature": self._id}
        if answer.text:
            yield {"type": "text", "text": answer.text}
        for call in answer.calls:
            known = {"id": tool_use_id(call.id), "name": call.name, "input": _input(call)}
            yield {"type": "tool_use"} | known

    def _end(self, finish: Finish) -> dict[str, Any]:
        """Why it ended."""
        if finish.reason is FinishReason.STOP and finish.stop_string in self._stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": finish.stop_string}
        return {"stop_reason": REASONS[finish.reason], "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, Any]:
    """Of the prompt's tokens `input_tokens` are those that had to be computed."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _input(call: ToolCall) -> dict[str, Any]:
    """The arguments. What is no JSON object, because it was cut short, say, is told as it is."""
    try:
        parsed = orjson.loads(call.arguments or b"{}")
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"arguments": call.arguments}
