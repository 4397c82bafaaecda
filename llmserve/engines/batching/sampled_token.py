"""What a step returns for each row that it samples."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.domain import TokenLogprobs


@dataclass(frozen=True, slots=True)
class SampledToken:
    """One row's next token; `None` if its logits are not numbers."""

    token_id: int | None
    logprobs: TokenLogprobs | None = None
