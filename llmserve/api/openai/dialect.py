"""How generations look in OpenAI's words, chat and text completions alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from llmserve.api.openai.logprobs import ChatLogprobs, CompletionLogprobs, LogprobsWriter
from llmserve.domain import Finish, FinishReason, Usage
from llmserve.service import Answer, Generation

if TYPE_CHECKING:  # torch and transformers come after the first connections
    from llmserve.text.tokenizer import Tokenizer


class Dialect(Protocol):
    """One of the two completion routes: its ids, objects and choices."""

    @property
    def prefix(self) -> str:
        """Of the body's id."""
        ...

    @property
    def whole(self) -> str:
        """The `object` of a whole answer."""
        ...

    @property
    def chunk(self) -> str:
        """The `object` of a chunk."""
        ...

    def opening(self) -> dict[str, Any] | None:
        """What a choice's first chunk carries, if it has one of its own."""
        ...

    def piece(self, text: str) -> dict[str, Any]:
        """What a chunk with text carries."""
        ...

    def closing(self) -> dict[str, Any]:
        """What the chunk with the finish reason carries."""
        ...

    def answer(self, text: str) -> dict[str, Any]:
        """What a whole choice carries."""
        ...

    def logprobs(self, tokenizer: Tokenizer) -> LogprobsWriter:
        """Writes one choice's log probabilities."""
        ...


class Chat:
    """/v1/chat/completions."""

    prefix = "chatcmpl-"
    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def opening(self) -> dict[str, Any] | None:
        """The role comes first."""
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, text: str) -> dict[str, Any]:
        """A delta."""
        return {"delta": {"content": text}}

    def closing(self) -> dict[str, Any]:
        """An empty delta."""
        return {"delta": {}}

    def answer(self, text: str) -> dict[str, Any]:
        """A message."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs(self, tokenizer: Tokenizer) -> LogprobsWriter:
        """Token by token."""
        return ChatLogprobs(tokenizer)


class Completion:
    """/v1/completions."""

    prefix = "cmpl-"
    whole = "text_completion"
    chunk = "text_completion"

    def opening(self) -> dict[str, Any] | None:
        """Nothing to say."""
        return None

    def piece(self, text: str) -> dict[str, Any]:
        """Text."""
        return {"text": text}

    def closing(self) -> dict[str, Any]:
        """Empty text."""
        return {"text": ""}

    def answer(self, text: str) -> dict[str, Any]:
        """Text."""
        return {"text": text}

    def logprobs(self, tokenizer: Tokenizer) -> LogprobsWriter:
        """List by list."""
        return CompletionLogprobs(tokenizer)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all bodies of one request share."""

    dialect: Dialect
    request_id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A body of that `object` kind."""
        return {
            "id": self.dialect.prefix + self.request_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def choice(
    index: int,
    content: dict[str, Any],
    finish: Finish | None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One choice, of a chunk or of a whole answer.

    `stop_reason` is an extension: the stop string that matched, or "timeout".
    """
    reasons: dict[str, Any] = {"finish_reason": None}
    if finish is not None:
        reasons = {"finish_reason": _finish_reason(finish), "stop_reason": _stop_reason(finish)}
    return {"index": index, **content, "logprobs": logprobs, **reasons}


def usage_body(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's words; `cached_tokens` of the prompt did not have to be computed."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def whole_body(
    envelope: Envelope,
    generations: Sequence[Generation],
    answers: Sequence[Answer],
    choices_per_prompt: int,
) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    dialect = envelope.dialect
    choices = [
        choice(
            index,
            dialect.answer(answer.text),
            answer.finish,
            None if answer.logprobs is None else dialect.logprobs(generation).body(answer.logprobs),
        )
        for index, (generation, answer) in enumerate(zip(generations, answers, strict=True))
    ]
    usages = [answer.finish.usage for answer in answers]
    body = envelope.body(dialect.whole, choices)
    return body | {"usage": usage_body(total_usage(usages, choices_per_prompt))}


def total_usage(usages: Sequence[Usage], choices_per_prompt: int) -> Usage:
    """Usage of a request: a prompt counts once, however many choices it has."""
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages[::choices_per_prompt]),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages[::choices_per_prompt]),
    )


def _finish_reason(finish: Finish) -> str:
    """OpenAI has no word for a deadline; `length` is its word for an answer cut short."""
    return "stop" if finish.reason is FinishReason.STOP else "length"


def _stop_reason(finish: Finish) -> str | None:
    return "timeout" if finish.reason is FinishReason.TIMEOUT else finish.stop_string
