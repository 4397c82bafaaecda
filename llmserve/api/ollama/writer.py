"""How a generation looks as lines of /api/chat and /api/generate, or as one object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from llmserve.api.ndjson import line
from llmserve.api.ollama.calls import CallsSoFar
from llmserve.api.ollama.error import ollama_error
from llmserve.api.token_logprobs import ChatLogprobs
from llmserve.domain import (
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    TokenLogprobs,
    Usage,
)
from llmserve.observability.tracing import Moments
from llmserve.service import Answer, Generation

NANOSECONDS: Final = 1_000_000_000

MAX_LOGPROBS_PER_LINE: Final = 64
"""With 20 alternatives each, these take a few milliseconds to write."""

CUT_SHORT: Final = frozenset({FinishReason.LENGTH, FinishReason.TIMEOUT})


class OllamaWriter(ABC):
    """Writes the answer to one request. The two routes differ in where the text stands."""

    def __init__(self, generation: Generation, *, shows_thinking: bool) -> None:
        self._generation = generation
        self._shows_thinking = shows_thinking
        self._calls = CallsSoFar()
        self._logprobs = ChatLogprobs(generation.spelling)

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        """A line for each piece; a last one that says how it ended, or what went wrong."""
        match event:
            case Delta():
                calls, text = self._calls.add(event.calls) if event.calls else ([], "")
                thought = event.reasoning if self._shows_thinking else ""
                yield from self._pieces(event.text + text, thought, calls, event.logprobs)
            case Finish():
                calls, text = self._calls.end()
                yield from self._pieces(text, "", calls)
                yield line(self._last(self.said("", "", []), event))
            case Failed(error, _):
                yield line(ollama_error(error))

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        """Nothing: the terminal event was the last one."""
        return iter(())

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """What was said, how it ended, and what it took."""
        [answer] = answers
        calls, text = self._calls.all(answer.calls)
        thought = answer.reasoning if self._shows_thinking else ""
        content = self.said(answer.text + text, thought, calls)
        if answer.logprobs is not None:
            content |= self._told_logprobs(answer.logprobs)
        return self._last(content, answer.finish)

    def quiet_line(self) -> bytes:
        """A piece without text."""
        return self._piece(self.said("", "", []))

    @staticmethod
    @abstractmethod
    def said(text: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        """Where this route has text, what the model thought, and its calls."""

    def _pieces(
        self,
        text: str,
        thought: str,
        calls: list[dict[str, Any]],
        logprobs: tuple[TokenLogprobs, ...] = (),
    ) -> Iterator[bytes]:
        """One line, or several if many log probabilities piled up for a slow reader."""
        while text or thought or calls or logprobs:
            now, logprobs = logprobs[:MAX_LOGPROBS_PER_LINE], logprobs[MAX_LOGPROBS_PER_LINE:]
            told = self._told_logprobs(now) if now else {}
            yield self._piece(self.said(text, thought, calls) | told)
            text, thought, calls = "", "", []

    def _piece(self, content: dict[str, Any]) -> bytes:
        return line({**self._head(), **content, "done": False})

    def _last(self, content: dict[str, Any], finish: Finish) -> dict[str, Any]:
        reason = "length" if finish.reason in CUT_SHORT else "stop"
        counts = _durations(self._generation.moments)
        counts |= {
            "prompt_eval_count": finish.usage.prompt_tokens,
            "eval_count": finish.usage.completion_tokens,
        }
        return {**self._head(), **content, "done": True, "done_reason": reason, **counts}

    def _head(self) -> dict[str, Any]:
        return {"model": self._generation.model, "created_at": datetime.now(UTC)}

    def _told_logprobs(self, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
        return {"logprobs": self._logprobs.body(tokens)["content"]}


class ChatWriter(OllamaWriter):
    """The text is in a message."""

    @staticmethod
    def said(text: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thought:
            message["thinking"] = thought
        if calls:
            message["tool_calls"] = calls
        return {"message": message}


class GenerateWriter(OllamaWriter):
    """The text is the response."""

    @staticmethod
    def said(text: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        return {"response": text, "thinking": thought} if thought else {"response": text}


def _durations(moments: Moments) -> dict[str, Any]:
    """In nanoseconds. What came before its turn is `load_duration`: waiting, loading, and making
    tokens of the prompt."""
    begun = moments.ended_at if moments.admitted_at is None else moments.admitted_at
    first = moments.ended_at if moments.first_token_at is None else moments.first_token_at
    return {
        "total_duration": nanoseconds(moments.arrived_at, moments.ended_at),
        "load_duration": nanoseconds(moments.arrived_at, begun),
        "prompt_eval_duration": nanoseconds(begun, first),
        "eval_duration": nanoseconds(first, moments.ended_at),
    }


def nanoseconds(begun: float, ended: float) -> int:
    """Between two clock readings, as Ollama tells durations."""
    return max(0, round((ended - begun) * NANOSECONDS))
