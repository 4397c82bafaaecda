"""What POST /api/generate takes."""

from __future__ import annotations

from pydantic import Field, model_validator

from llmserve.api.ollama.body import OllamaBody
from llmserve.domain import Conversation, Message, Prompt


class GenerateBody(OllamaBody):
    """POST /api/generate. Without a prompt it loads the model."""

    prompt: str = Field("", description="What a user says; with `raw`, a text to continue.")
    system: str | None = Field(None, description="A system message before it.")
    raw: bool = Field(False, description="The prompt goes to the model without a chat template.")

    @model_validator(mode="after")
    def _raw_is_all(self) -> GenerateBody:
        if self.raw and self.system:
            raise ValueError("a raw prompt has no system message; write it into the prompt")
        if self.raw and self.think is not None:
            raise ValueError("how a model answers a raw prompt is not told; leave `think` out")
        return self

    @property
    def asks_to_load(self) -> bool:
        return not self.prompt

    def prompt_or_conversation(self) -> Prompt:
        if self.raw:
            return self.prompt
        messages = [Message("system", self.system)] if self.system else []
        return Conversation(
            (*messages, Message("user", self.prompt)), template_options=self.template_options()
        )
