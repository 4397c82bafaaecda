"""A whole generation, collected from its events."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmserve.domain import (
    Delta,
    Event,
    Finish,
    PromptLogprobs,
    SamplingParams,
    TokenLogprobs,
    ToolCall,
    ToolCallDelta,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a generation came to.

    Attributes:
        logprobs: one entry for each token; `None` where they were not asked for.
        prompt_logprobs: of the prompt's tokens from the second one on; `None` likewise.
        reasoning: what the model thought before it answered.
        calls: its tool calls.
    """

    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    logprobs: tuple[TokenLogprobs, ...] | None = None
    prompt_logprobs: tuple[TokenLogprobs, ...] | None = None
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()


@dataclass(slots=True)
class Collector:
    """Puts an answer together."""

    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _token_ids: list[int] = field(default_factory=list)
    _logprobs: list[TokenLogprobs] = field(default_factory=list)
    _prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    _calls: dict[int, list[ToolCallDelta]] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """The next event; what is no part of an answer does not matter."""
        match event:
            case Delta():
                self._text.append(event.text)
                self._reasoning.append(event.reasoning)
                self._token_ids.extend(event.token_ids)
                self._logprobs.extend(event.logprobs)
                for piece in event.calls:
                    self._calls.setdefault(piece.index, []).append(piece)
            case PromptLogprobs(tokens):
                self._prompt_logprobs.extend(tokens)

    def answer(self, finish: Finish, sampling: SamplingParams) -> Answer:
        """The answer, whose last event was this one."""
        return Answer(
            text="".join(self._text),
            token_ids=tuple(self._token_ids),
            finish=finish,
            logprobs=None if sampling.logprobs is None else tuple(self._logprobs),
            prompt_logprobs=(
                None if sampling.prompt_logprobs is None else tuple(self._prompt_logprobs)
            ),
            reasoning="".join(self._reasoning),
            calls=tuple(_whole(pieces) for _, pieces in sorted(self._calls.items())),
        )


def _whole(pieces: list[ToolCallDelta]) -> ToolCall:
    return ToolCall(
        id=next((piece.id for piece in pieces if piece.id is not None), ""),
        name=next((piece.name for piece in pieces if piece.name is not None), ""),
        arguments="".join(piece.arguments for piece in pieces),
    )
