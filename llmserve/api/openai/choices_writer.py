"""What chats and text completions share on the wire: chunks, choices, usage, `[DONE]`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from llmserve.api.error_shape import openai_error
from llmserve.api.openai.best import best_answers
from llmserve.api.openai.echo import Piece
from llmserve.api.openai.logprobs import LogprobsWriter
from llmserve.api.openai.prompt_logprobs import prompt_logprobs_body
from llmserve.api.openai.shown import TEXT_AND_LOGPROBS, Shown, UsageWanted
from llmserve.api.sse import data, queued_comment
from llmserve.api.token_logprobs import Spell
from llmserve.domain import (
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    PromptLogprobs,
    Queued,
    Usage,
)
from llmserve.service import Answer, Generation

DONE: Final = b"data: [DONE]\n\n"

MAX_LOGPROBS_PER_CHUNK: Final = 64
"""With 20 alternatives each, these take a few milliseconds to write."""


class ChoicesWriter(ABC):
    """Writes the choices of one request. The two routes differ in what a choice contains.

    Attributes:
        prefix: of the answer's id.
        whole_object: the `object` of an answer that is not streamed.
        chunk_object: the `object` of a chunk.
        has_one_prompt: what is told of the prompt stands beside the choices, not in each.
    """

    prefix: ClassVar[str]
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]
    has_one_prompt: ClassVar[bool]

    def __init__(
        self,
        generations: Sequence[Generation],
        *,
        choices_per_prompt: int,
        shown: Shown = TEXT_AND_LOGPROBS,
    ) -> None:
        self._id = self.prefix + generations[0].id
        self._model = generations[0].model
        self._created = int(time.time())
        self._choices_per_prompt = choices_per_prompt
        self._fingerprint = generations[0].fingerprint
        self._usages = [Usage(prompt_tokens=g.prompt_tokens) for g in generations]
        self.shown = shown
        self._generations = generations
        self._logprobs = [self.logprobs_writer(g.spelling) for g in generations]
        self._opened: set[int] = set()
        self._told: set[int] = set()

    def frames(self, index: int, event: Event) -> Iterator[bytes]:
        """Chunks of one choice; an error object, a comment while it waits."""
        if isinstance(event, Queued):
            yield queued_comment(event)
            return
        if isinstance(event, Failed):
            yield data(openai_error(event.error))
            return
        yield from self._opening(index)
        match event:
            case PromptLogprobs() | Delta() | Finish():
                for text, logprobs in self.prompt_pieces(index, event):
                    choice = self._choice(index, self.piece(Delta(text, ())), logprobs=logprobs)
                    yield self._chunk(choice, index, ())
        match event:
            case Delta():
                so_far = self._usages[index]
                made = so_far.completion_tokens + len(event.token_ids)
                self._usages[index] = replace(so_far, completion_tokens=made)
                yield from self._pieces(index, self.wanted(event))
            case Finish():
                self._usages[index] = event.usage
                yield self._chunk(self._choice(index, self.closing(), event), index, ())

    def end(self, usages: Sequence[Usage]) -> Iterator[bytes]:
        """The usage, if it was asked for, and `[DONE]`."""
        if self.shown.usage is not UsageWanted.NONE:
            yield data(self._body(self.chunk_object, []) | {"usage": self._usage(usages)})
        yield DONE

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Every choice, or the best ones, and the usage, which counts all."""
        chosen = best_answers(answers, self._choices_per_prompt, self.shown.best)
        choices = [
            self._whole_choice(number, index, answers[index]) for number, index in enumerate(chosen)
        ]
        usage = self._usage([answer.finish.usage for answer in answers])
        whole = self._body(self.whole_object, choices) | {"usage": usage}
        return whole | (self._of_prompt(0, answers[0]) if self.has_one_prompt else {})

    def prompt_pieces(self, index: int, event: Event) -> Iterator[Piece]:
        """What of its prompt a choice repeats before what an event brings."""
        yield from ()

    def whole_text(self, index: int, answer: Answer) -> str:
        """The text of a choice that is not streamed."""
        return answer.text

    def whole_logprobs(self, index: int, answer: Answer) -> dict[str, Any] | None:
        """The log probabilities of a choice that is not streamed."""
        if answer.logprobs is None or not self.shown.logprobs:
            return None
        return self._logprobs[index].body(answer.logprobs)

    def wanted(self, delta: Delta) -> Delta:
        """What the client wants to see of a delta."""
        return delta

    @abstractmethod
    def opening(self) -> dict[str, Any] | None:
        """What a choice's first chunk contains, if it has one of its own."""

    @abstractmethod
    def piece(self, delta: Delta) -> dict[str, Any]:
        """What a chunk with this delta contains."""

    @abstractmethod
    def closing(self) -> dict[str, Any]:
        """What the chunk with the finish reason contains."""

    @abstractmethod
    def content(self, answer: Answer) -> dict[str, Any]:
        """What a choice of a whole answer contains."""

    def finish_reason(self, reason: FinishReason) -> str:
        """OpenAI has no word for a deadline; `length` is its word for an answer cut short."""
        return "length" if reason is FinishReason.TIMEOUT else reason.value

    @abstractmethod
    def logprobs_writer(self, spelling: Spell) -> LogprobsWriter:
        """Writes the log probabilities of one choice, whose tokens `spelling` spells."""

    def _opening(self, index: int) -> Iterator[bytes]:
        opening = self.opening()
        if opening is not None and index not in self._opened:
            self._opened.add(index)
            yield self._chunk(self._choice(index, opening), index)

    def _pieces(self, index: int, delta: Delta) -> Iterator[bytes]:
        """A delta, in several chunks if many log probabilities piled up for a slow reader.

        A token whose text is held back has a chunk of its own, without text.
        """
        tokens = delta.logprobs
        ids = delta.token_ids if self.shown.token_ids else ()
        says_something = bool(delta.text or delta.reasoning or delta.calls)
        while says_something or tokens or ids:
            now, tokens = tokens[:MAX_LOGPROBS_PER_CHUNK], tokens[MAX_LOGPROBS_PER_CHUNK:]
            logprobs = self._logprobs[index].body(now) if now else None
            choice = self._choice(index, self.piece(delta), logprobs=logprobs)
            yield self._chunk(choice, index, ids)
            delta, ids, says_something = Delta("", ()), (), False

    def _chunk(self, choice: dict[str, Any], index: int, ids: Sequence[int] | None = None) -> bytes:
        """The prompt's tokens are told in a choice's first chunk, the answer's in those after its
        opening."""
        extra = self._usage_of_chunk()
        if self.shown.token_ids:
            if ids is not None:
                choice = choice | {"token_ids": list(ids)}
            if index not in self._told:
                self._told.add(index)
                prompt = {"prompt_token_ids": list(self._generations[index].prompt_ids)}
                choice, extra = (
                    (choice, extra | prompt) if self.has_one_prompt else (choice | prompt, extra)
                )
        return data(self._body(self.chunk_object, [choice]) | extra)

    def _usage_of_chunk(self) -> dict[str, Any]:
        """Where a usage is wanted, every chunk but the last has OpenAI's null."""
        match self.shown.usage:
            case UsageWanted.NONE:
                return {}
            case UsageWanted.AT_THE_END:
                return {"usage": None}
            case UsageWanted.IN_EVERY_CHUNK:
                return {"usage": self._usage(self._usages)}

    def _whole_choice(self, number: int, index: int, answer: Answer) -> dict[str, Any]:
        content = self.content(replace(answer, text=self.whole_text(index, answer)))
        choice = self._choice(number, content, answer.finish, self.whole_logprobs(index, answer))
        if self.shown.token_ids:
            choice["token_ids"] = list(answer.token_ids)
        return choice if self.has_one_prompt else choice | self._of_prompt(index, answer)

    def _of_prompt(self, index: int, answer: Answer) -> dict[str, Any]:
        told: dict[str, Any] = {}
        generation, num_top = self._generations[index], self.shown.prompt_logprobs
        if self.shown.token_ids:
            told["prompt_token_ids"] = list(generation.prompt_ids)
        if num_top is not None:
            tokens = answer.prompt_logprobs or ()
            told["prompt_logprobs"] = prompt_logprobs_body(tokens, num_top, generation.spelling)
        return told

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": self._fingerprint,
            **({"service_tier": "default"} if self.shown.service_tier else {}),
            "choices": choices,
        }

    def _usage(self, usages: Sequence[Usage]) -> dict[str, Any]:
        """The request's usage: a prompt counts once, however many choices it has.

        `cached_tokens` of the prompt did not have to be computed.
        """
        first_choices = usages[:: self._choices_per_prompt]
        prompt_tokens = sum(usage.prompt_tokens for usage in first_choices)
        completion_tokens = sum(usage.completion_tokens for usage in usages)
        cached_tokens = sum(usage.cached_tokens for usage in first_choices)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
            "completion_tokens_details": {
                "reasoning_tokens": sum(usage.reasoning_tokens for usage in usages)
            },
        }

    def _choice(
        self,
        index: int,
        content: dict[str, Any],
        finish: Finish | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One choice, of a chunk or of a whole answer.

        `stop_reason` is an extension: the stop string that matched, the id of the token of
        `stop_token_ids` that came, or "timeout".
        """
        reasons: dict[str, Any] = {"finish_reason": None}
        if finish is not None:
            reason = self.finish_reason(finish.reason)
            reasons = {"finish_reason": reason, "stop_reason": _stop_reason(finish)}
        return {"index": index, **content, "logprobs": logprobs, **reasons}


def _stop_reason(finish: Finish) -> str | int | None:
    if finish.reason is FinishReason.TIMEOUT:
        return "timeout"
    return finish.stop_token if finish.stop_string is None else finish.stop_string
