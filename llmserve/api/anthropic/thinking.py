"""Whether a model thinks before it answers, and how much."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmserve.api.anthropic.fields import AnthropicFields
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT


class Thinking(AnthropicFields):
    """Where it is absent the model does as its chat template has it."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(
        None,
        ge=1,
        le=MAX_TOKENS_LIMIT,
        description="After this many tokens of thinking the answer begins. A model that does not "
        "think keeps any budget.",
    )
    display: Literal["summarized", "omitted"] | None = Field(
        None, description="`omitted`: blocks of thinking come without their text."
    )

    @model_validator(mode="after")
    def _budget_where_enabled(self) -> Thinking:
        if (self.type == "enabled") != (self.budget_tokens is not None):
            raise ValueError("`budget_tokens` is for the type `enabled`, which needs it")
        return self

    @property
    def is_wanted(self) -> bool:
        """The chat template's `enable_thinking`."""
        return self.type != "disabled"

    @property
    def is_shown(self) -> bool:
        """Whether its text is told."""
        return self.display != "omitted"
