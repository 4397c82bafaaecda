"""`[encoding]` in `model.toml`: how texts become embeddings."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from llmserve.domain import EncodingSpec
from llmserve.registry.output_table import STRICT

Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
PromptName = Annotated[str, Field(min_length=1, max_length=128)]

GENERATION_ONLY: Final = (
    "chat_template", "output", "sampling", "gguf_file", "dequantize", "quantize",
)  # fmt: skip
"""Keys of a manifest that only a model which generates can have."""


class EncodingTable(BaseModel):
    """In place of what the model's own files say; every key may be left out."""

    model_config = STRICT

    pooling: Pooling | Annotated[list[Pooling], Field(min_length=1)] | None = None
    normalize: bool | None = None
    prompts: dict[PromptName, str] | None = None
    default_prompt: PromptName | None = None

    def spec(self) -> EncodingSpec:
        """The table as the engine takes it."""
        pooling = (self.pooling,) if isinstance(self.pooling, str) else self.pooling
        return EncodingSpec(
            pooling=None if pooling is None else tuple(pooling),
            is_normalized=self.normalize,
            prompts=None if self.prompts is None else tuple(self.prompts.items()),
            default_prompt=self.default_prompt,
        )
