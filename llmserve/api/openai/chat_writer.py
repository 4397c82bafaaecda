"""How generations look as answers of /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from llmserve.api.openai.choices_writer import ChoicesWriter
from llmserve.api.openai.logprobs import ChatLogprobs, LogprobsWriter, Spell, as_ids


class ChatWriter(ChoicesWriter):
    """A choice is a message, and its chunks are deltas; the first one names the role."""

    prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    has_one_prompt = True

    def opening(self) -> dict[str, Any] | None:
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}}

    def closing(self) -> dict[str, Any]:
        return {"delta": {}}

    def content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs_writer(self, spelling: Spell) -> LogprobsWriter:
        return ChatLogprobs(as_ids(spelling) if self.shown.tokens_as_ids else spelling)
