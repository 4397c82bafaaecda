"""What POST /v1/embed and POST /v2/embed take."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmserve.api.encoding_body import Dimensions, EncodingBody, Texts, truncation
from llmserve.api.input_type import PROMPTS, InputType
from llmserve.domain import EncodingPurpose, EncodingRequest


class EmbedBody(EncodingBody):
    """Cohere's fields."""

    unsupported: ClassVar = frozenset({"images", "inputs", "max_tokens"})
    served_elsewhere: ClassVar = frozenset({"input", "query", "documents"})

    model: str | None = Field(
        None, description="A served model; the first that can do this if absent."
    )
    texts: Texts = Field(description="Up to 2,048 texts.")
    input_type: InputType | None = Field(
        None,
        description="What the texts are for: the model's prompt of this kind comes before each, if "
        "it has one.",
    )
    embedding_types: list[Literal["float", "base64"]] | None = Field(
        None, min_length=1, max_length=2, description="How the numbers are written."
    )
    output_dimension: Dimensions | None = Field(
        None, description="Keep so many numbers, for models that were made for it."
    )
    truncate: Literal["NONE", "START", "END"] = Field(
        "END", description="Where texts are cut that are too long; `NONE` refuses them."
    )

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=tuple(self.texts),
            purpose=EncodingPurpose.EMBEDDING,
            model=self.model,
            prompt_name=None if self.input_type is None else PROMPTS[self.input_type],
            may_lack_prompt=True,
            dimensions=self.output_dimension,
            truncation=truncation(
                is_wanted=self.truncate != "NONE", keeps_end=self.truncate == "START"
            ),
            timeout_seconds=timeout_seconds,
        )
