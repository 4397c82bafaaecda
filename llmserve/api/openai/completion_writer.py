"""How generations look as answers of /v1/completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmserve.api.openai.choices_writer import ChoicesWriter
from llmserve.api.openai.echo import Echo, Piece
from llmserve.api.openai.logprobs import CompletionLogprobs, as_ids
from llmserve.api.openai.shown import TEXT_AND_LOGPROBS, Shown
from llmserve.api.token_logprobs import Spell
from llmserve.domain import Delta, Event, PromptLogprobs
from llmserve.service import Answer, Generation


class CompletionWriter(ChoicesWriter):
    """A choice is a text, and so are its chunks. `echoed`: the texts of the prompts, which come
    first; `None` where the tokens have to tell."""

    prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"
    has_one_prompt = False

    def __init__(
        self,
        generations: Sequence[Generation],
        *,
        choices_per_prompt: int,
        shown: Shown = TEXT_AND_LOGPROBS,
        num_top: int | None = None,
        echoed: Sequence[str | None] | None = None,
    ) -> None:
        self._num_top = num_top
        self._texts: list[CompletionLogprobs] = []
        super().__init__(generations, choices_per_prompt=choices_per_prompt, shown=shown)
        self._echoed = echoed
        self._echoes: dict[int, Echo] = {}

    def opening(self) -> dict[str, Any] | None:
        return None

    def piece(self, delta: Delta) -> dict[str, Any]:
        return {"text": delta.text}

    def closing(self) -> dict[str, Any]:
        return {"text": ""}

    def content(self, answer: Answer) -> dict[str, Any]:
        return {"text": answer.text}

    def logprobs_writer(self, spelling: Spell) -> CompletionLogprobs:
        written = as_ids(spelling) if self.shown.tokens_as_ids else None
        self._texts.append(CompletionLogprobs(spelling, written, self._num_top))
        return self._texts[-1]

    def prompt_pieces(self, index: int, event: Event) -> Iterator[Piece]:
        echo = self._echo(index)
        if echo is None:
            return
        if not isinstance(event, PromptLogprobs):
            yield from echo.rest()
        elif self.shown.logprobs:
            yield from echo.pieces(event.tokens)

    def whole_text(self, index: int, answer: Answer) -> str:
        echo = self._echo(index)
        return answer.text if echo is None else echo.text + answer.text

    def whole_logprobs(self, index: int, answer: Answer) -> dict[str, Any] | None:
        echo = self._echo(index)
        if echo is None or not self.shown.logprobs:
            return super().whole_logprobs(index, answer)
        prompt = self._texts[index].body([echo.first_id, *(answer.prompt_logprobs or ())])
        self._texts[index].end_echo()
        told = self._texts[index].body(answer.logprobs or ())
        return {name: [*column, *told[name]] for name, column in prompt.items()}

    def _echo(self, index: int) -> Echo | None:
        if self._echoed is None:
            return None
        if index not in self._echoes:
            ids = self._generations[index].prompt_ids
            text = self._echoed[index // self._choices_per_prompt]
            if text is None:
                text = self._generations[index].decode(ids)
            logprobs = self._texts[index] if self.shown.logprobs else None
            self._echoes[index] = Echo(text, next(iter(ids), 0), logprobs)
        return self._echoes[index]
