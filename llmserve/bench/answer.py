"""One answer, from the client's side: what every answer has, and a streamed one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class Timed:
    """What a server said to a request, and when, in readings of `time.perf_counter`.

    Attributes:
        is_done: the answer is complete.
        error: what went wrong, in short; `None` if nothing did.
    """

    began_at: float
    ended_at: float = 0.0
    is_done: bool = False
    error: str | None = None

    def take(self, data: bytes, now: float) -> None:
        """Take a piece of the body."""
        raise NotImplementedError

    def close(self) -> None:
        """Called when the whole body was taken."""

    @property
    def seconds(self) -> float:
        """From the request to the end of the answer."""
        return self.ended_at - self.began_at


@dataclass(slots=True)
class TimedAnswer(Timed):
    """The events of a streamed answer and their times; done with `[DONE]` or a finish reason.

    Attributes:
        token_at: when each event with text arrived.
        prompt_tokens, completion_tokens: from the server's usage; `None` if it sent none.
    """

    token_at: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    _rest: bytes = b""

    def take(self, data: bytes, now: float) -> None:
        """Take a piece of the event stream."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            for line in event.split(b"\n"):
                if line.startswith(b"data:"):
                    self._event(line[5:].strip(), now)

    @property
    def output_tokens(self) -> int:
        """The server's count, or one for each event with text."""
        return len(self.token_at) if self.completion_tokens is None else self.completion_tokens

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token."""
        return self.token_at[0] - self.began_at if self.token_at else None

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens; if events carry several tokens, a gap is divided among them."""
        pairs = zip(self.token_at, self.token_at[1:], strict=False)
        per_event = max(1.0, self.output_tokens / max(1, len(self.token_at)))
        return [(later - earlier) / per_event for earlier, later in pairs]

    def _event(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self.is_done = True
            return
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.error = "not JSON"
            return
        if isinstance(payload, dict):
            self._payload(payload, now)

    def _payload(self, payload: dict[str, Any], now: float) -> None:
        if payload.get("error"):
            error = payload["error"]
            code = error.get("code") or error.get("type") if isinstance(error, dict) else error
            self.error = f"event: {code}"
        for choice in payload.get("choices") or ():
            delta = choice.get("delta") or {}
            if choice.get("text") or delta.get("content") or delta.get("reasoning_content"):
                self.token_at.append(now)
            if choice.get("finish_reason"):
                self.is_done = True
        usage = payload.get("usage")
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens")
            self.completion_tokens = usage.get("completion_tokens")
