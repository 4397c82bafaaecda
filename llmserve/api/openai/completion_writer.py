"""How generations look as answers of /v1/completions."""

from __future__ import annotations

from typing import Any

from llmserve.api.openai.choices_writer import ChoicesWriter
from llmserve.api.openai.logprobs import CompletionLogprobs, LogprobsWriter, Spell
from llmserve.domain import Delta
from llmserve.service import Answer


class CompletionWriter(ChoicesWriter):
    """A choice is a text, and so are its chunks."""

    prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def opening(self) -> dict[str, Any] | None:
        return None

    def piece(self, delta: Delta) -> dict[str, Any]:
        return {"text": delta.text}

    def closing(self) -> dict[str, Any]:
        return {"text": ""}

    def content(self, answer: Answer) -> dict[str, Any]:
        return {"text": answer.text}

    def logprobs_writer(self, spelling: Spell) -> LogprobsWriter:
        return CompletionLogprobs(spelling)
