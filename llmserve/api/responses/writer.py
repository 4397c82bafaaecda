"""How a generation looks as a response: its events on a stream, and its items as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from llmserve.api.responses.output import CallItem, OutputItem, ReasoningItem, TextItem, Told
from llmserve.api.responses.resource import Resource
from llmserve.api.sse import named, queued_comment
from llmserve.api.token_logprobs import ChatLogprobs
from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Queued,
    TokenLogprobs,
    ToolCallDelta,
    Usage,
)
from llmserve.errors import LLMServeError
from llmserve.service import Answer, Generation

CUT: Final = frozenset({FinishReason.LENGTH, FinishReason.TIMEOUT})

MAX_LOGPROBS_PER_EVENT: Final = 64
"""With 20 alternatives each, these take a few milliseconds to write."""


class ResponseWriter:
    """Writes the response of one generation.

    An item ends where the next one begins. Of an answer that says nothing there is an empty
    message.

    Attributes:
        whole_response: the response object, once it has ended.
    """

    def __init__(
        self,
        generations: Sequence[Generation],
        resource: Resource,
        *,
        tells_logprobs: bool = False,
        tells_reasoning: bool = True,
    ) -> None:
        [generation] = generations
        self._resource = resource
        self._logprobs = ChatLogprobs(generation.spelling) if tells_logprobs else None
        self._tells_reasoning = tells_reasoning
        self._number = 0
        self._status = ""
        self._done: list[dict[str, Any]] = []
        self._open: OutputItem | None = None
        self._held: list[dict[str, Any]] = []
        self.whole_response: dict[str, Any] | None = None

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        """The response's events for one of the generation; while it waits, a comment, too."""
        for kind, told in self._told(event):
            yield named(kind, {"type": kind, "sequence_number": self._number} | told)
            self._number += 1
        if isinstance(event, Queued):
            yield queued_comment(event)

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        """Nothing: the last event says that it is the last one."""
        yield from ()

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The response object with all items: what was thought, said and called."""
        [answer] = answers
        calls = tuple(
            ToolCallDelta(number, call.arguments, call.id, call.name)
            for number, call in enumerate(answer.calls)
        )
        delta = Delta(answer.text, (), answer.logprobs or (), answer.reasoning, calls)
        self.take(delta)
        self.take(answer.finish)
        assert self.whole_response is not None
        return self.whole_response

    def take(self, event: Event) -> None:
        """One more event, of which no client is told."""
        for _ in self._told(event):
            pass

    def broken_off(self, error: LLMServeError) -> dict[str, Any]:
        """The response object when there will be no more events."""
        return self._resource.told("failed", self._output("incomplete"), error=error)

    def so_far(self, status: str) -> dict[str, Any]:
        """The response object with the items that there are."""
        return self._resource.told(status, self._output("in_progress"))

    def _told(self, event: Event) -> Iterator[Told]:
        yield from self._begun(is_waiting=isinstance(event, Queued))
        match event:
            case Delta():
                yield from self._grown(event)
            case Finish():
                yield from self._finished(event)
            case Failed(error, usage):
                yield (
                    "error",
                    {
                        "code": error.code,
                        "message": error.message,
                        "param": error.param,
                    },
                )
                output = self._output("incomplete")
                yield self._ended(self._resource.told("failed", output, usage=usage, error=error))
            case Cancelled(usage):
                output = self._output("incomplete")
                yield self._ended(self._resource.told("cancelled", output, usage=usage))

    def _begun(self, *, is_waiting: bool) -> Iterator[Told]:
        status = "queued" if is_waiting else "in_progress"
        if not self._status:
            yield "response.created", {"response": self._resource.told(status)}
        if self._status != status:
            self._status = status
            yield f"response.{status}", {"response": self._resource.told(status)}

    def _grown(self, delta: Delta) -> Iterator[Told]:
        if delta.reasoning and self._tells_reasoning:
            if not isinstance(self._open, ReasoningItem):
                yield from self._opened(ReasoningItem(*self._next_item("rs")))
            assert isinstance(self._open, ReasoningItem)
            yield self._open.grows(delta.reasoning)
        if delta.text or not (delta.reasoning or delta.calls):
            yield from self._said(delta.text, delta.logprobs)
        for piece in delta.calls:
            yield from self._called(piece)

    def _said(self, text: str, logprobs: Sequence[TokenLogprobs]) -> Iterator[Told]:
        """Log probabilities of tokens whose text is still held back come with the next text; many
        that piled up for a slow reader come in several events."""
        if self._logprobs is not None and logprobs:
            self._held += self._logprobs.body(logprobs)["content"]
        if not text:
            return
        if not isinstance(self._open, TextItem):
            yield from self._opened(TextItem(*self._next_item("msg")))
        assert isinstance(self._open, TextItem)
        while text or self._held:
            now, self._held = self._split_held()
            yield self._open.grows(text, now)
            text = ""

    def _called(self, piece: ToolCallDelta) -> Iterator[Told]:
        call = self._open
        if not isinstance(call, CallItem) or call.number != piece.index:
            call = CallItem(*self._next_item("fc"), piece.index)
            call.call_id, call.name = piece.id or "", piece.name or ""
            yield from self._opened(call)
        if piece.arguments:
            yield call.grows(piece.arguments)

    def _finished(self, finish: Finish) -> Iterator[Told]:
        is_cut = finish.reason in CUT
        status = "incomplete" if is_cut else "completed"
        if self._open is None and not self._done:
            yield from self._opened(TextItem(*self._next_item("msg")))
        yield from self._closed(status)
        response = self._resource.told(
            status, self._done, usage=finish.usage, is_cut=is_cut
        ) | _stop_reason(finish)
        yield self._ended(response)

    def _ended(self, response: dict[str, Any]) -> Told:
        self.whole_response = response
        kind = {"completed": "completed", "failed": "failed"}.get(response["status"], "incomplete")
        return f"response.{kind}", {"response": response}

    def _opened(self, item: OutputItem) -> Iterator[Told]:
        yield from self._closed("completed")
        self._open = item
        yield from item.opened()

    def _closed(self, status: str) -> Iterator[Told]:
        item, self._open = self._open, None
        if item is None:
            return
        if isinstance(item, TextItem):
            while self._held:
                now, self._held = self._split_held()
                yield item.grows("", now)
        yield from item.closed(status)
        self._done.append(item.told(status))

    def _output(self, status: str) -> list[dict[str, Any]]:
        return [*self._done, *([] if self._open is None else [self._open.told(status)])]

    def _next_item(self, prefix: str) -> tuple[str, int]:
        index = len(self._done) + (self._open is not None)
        return self._resource.item_id(prefix, index), index

    def _split_held(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return self._held[:MAX_LOGPROBS_PER_EVENT], self._held[MAX_LOGPROBS_PER_EVENT:]


def _stop_reason(finish: Finish) -> dict[str, Any]:
    """An extension, as in chats: the stop string or token that ended it, or "timeout"."""
    if finish.reason is FinishReason.TIMEOUT:
        return {"stop_reason": "timeout"}
    reason = finish.stop_token if finish.stop_string is None else finish.stop_string
    return {} if reason is None else {"stop_reason": reason}
