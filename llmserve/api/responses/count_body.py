"""What POST /v1/responses/input_tokens takes."""

from __future__ import annotations

from typing import ClassVar

from llmserve.api.generation_body import GenerationBody
from llmserve.api.responses.prompt_fields import PromptFields
from llmserve.domain import GenerationRequest


class CountBody(PromptFields, GenerationBody):
    """The fields that make a prompt; all others change nothing in it."""

    unsupported: ClassVar = frozenset({"conversation", "prompt"})

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """One whose prompt is counted."""
        request = GenerationRequest(
            id=request_id,
            prompt=self.conversation(),
            model=self.model,
            timeout_seconds=timeout_seconds,
            tool_choice=self.choice,
            max_prompt_tokens=self.max_prompt_tokens,
        )
        return [request]
