"""The fields with which vLLM and others cut inputs that are too long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from llmserve.api.edge.timeouts import earliest
from llmserve.api.encoding_body import EncodingBody, truncation
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT
from llmserve.domain import Truncation


class TruncationFields(EncodingBody):
    """Without any of them an input that is too long is refused, unless a dialect has another
    default."""

    model: str | None = Field(
        None, description="A served model; the first that can do this if absent."
    )
    truncate_prompt_tokens: int | None = Field(
        None,
        ge=-1,
        le=MAX_TOKENS_LIMIT,
        description="Cut longer inputs to so many tokens, special ones included; -1: to what the "
        "model takes (vLLM's field).",
    )
    truncation_side: Literal["left", "right"] | None = Field(
        None,
        description="Where they are cut: `right` keeps the beginning (the default), `left` the end "
        "(vLLM's field).",
    )
    timeout: float | None = Field(
        None, gt=0, le=1e9, description="Seconds until the answer must be there."
    )

    @field_validator("truncate_prompt_tokens")
    @classmethod
    def _some_tokens(cls, most: int | None) -> int | None:
        if most == 0:
            raise ValueError("0 would leave nothing of an input; send at least 1, or -1")
        return most

    @property
    def truncates(self) -> bool:
        """Whether longer inputs are cut."""
        return self.truncate_prompt_tokens is not None or self.truncation_side is not None

    @property
    def keeps_end(self) -> bool:
        """Whether they lose their beginning."""
        return self.truncation_side == "left"

    @property
    def truncation(self) -> Truncation:
        """What becomes of an input that is too long."""
        return truncation(is_wanted=self.truncates, keeps_end=self.keeps_end)

    @property
    def max_tokens_per_input(self) -> int | None:
        """Where they are cut, where that is not the model's own bound."""
        most = self.truncate_prompt_tokens
        return None if most == -1 else most

    def seconds(self, timeout_seconds: float | None) -> float | None:
        """The earlier deadline: the connection's or the body's."""
        return earliest(timeout_seconds, self.timeout)
