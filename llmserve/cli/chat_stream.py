"""A streamed answer of `/v1/chat/completions` as a person sees it: thoughts, text, tool calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from llmserve.errors import ConfigurationError

MAX_SHOWN: Final = 80
END: Final = "[DONE]"


class Kind(Enum):
    """What a piece of an answer is."""

    REASONING = auto()
    TEXT = auto()
    CALL = auto()


@dataclass(slots=True)
class Call:
    """A tool call, complete once the stream has ended."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Reply:
    """What one answer came to.

    Attributes:
        tokens: as the server counts them; 0 until it has told.
        first_seconds: until the first piece came, `None` before.
    """

    clock: Callable[[], float] = time.monotonic
    text: str = ""
    calls: dict[int, Call] = field(default_factory=dict)
    tokens: int = 0
    first_seconds: float | None = None
    seconds: float = 0.0

    def pieces(self, lines: Iterable[str]) -> Iterator[tuple[Kind, str]]:
        """What to show of each line of the stream, as it comes.

        Raises:
            ConfigurationError: it is an error, or not an event of a chat.
        """
        begun = self.clock()
        for line in lines:
            payload = line.removeprefix("data: ")
            if payload in (line, END):
                continue
            for piece in self._read(payload):
                if self.first_seconds is None:
                    self.first_seconds = self.clock() - begun
                yield piece
            self.seconds = self.clock() - begun

    @property
    def speed(self) -> str:
        """How fast it came; empty if that is unknown."""
        if not self.tokens or self.first_seconds is None:
            return ""
        told = f"{self.tokens} tokens, the first after {self.first_seconds:.2f} s"
        decoding = self.seconds - self.first_seconds
        return told + (f", {(self.tokens - 1) / decoding:.1f} tokens/s" if decoding > 0 else "")

    def message(self) -> dict[str, Any]:
        """The answer as a later request has it."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.calls.values()
            ]
        return message

    def _read(self, payload: str) -> list[tuple[Kind, str]]:
        try:
            chunk = json.loads(payload)
            if "error" in chunk:
                raise ConfigurationError(str(chunk["error"]["message"]))
            usage = chunk.get("usage")
            if usage is not None:
                self.tokens = int(usage["completion_tokens"])
            return [piece for choice in chunk["choices"] for piece in self._delta(choice["delta"])]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"not an event of a chat: {payload[:MAX_SHOWN]}") from error

    def _delta(self, delta: dict[str, Any]) -> Iterator[tuple[Kind, str]]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            yield Kind.REASONING, str(thought)
        text = delta.get("content")
        if text:
            self.text += str(text)
            yield Kind.TEXT, str(text)
        for part in delta.get("tool_calls") or ():
            yield Kind.CALL, self._call(part)

    def _call(self, part: dict[str, Any]) -> str:
        call = self.calls.setdefault(int(part["index"]), Call())
        function = part.get("function") or {}
        name, arguments = (str(function.get(key) or "") for key in ("name", "arguments"))
        call.id += str(part.get("id") or "")
        call.name += name
        call.arguments += arguments
        return (f"\n{name} " if name else "") + arguments
