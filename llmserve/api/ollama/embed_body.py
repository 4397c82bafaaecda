"""What POST /api/embed and its older form, POST /api/embeddings, take."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from llmserve.api.encoding_body import MAX_INPUTS, Dimensions, EncodingBody, truncation
from llmserve.api.fields import Fields
from llmserve.api.ollama.keep_alive import KeepAliveFields
from llmserve.domain import EncodingPurpose, EncodingRequest


def _listed(sent: Any) -> Any:
    return [sent] if isinstance(sent, str) else sent


Texts = Annotated[
    list[str],
    Field(max_length=MAX_INPUTS, fail_fast=True),
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
]


class EmbedOptions(Fields):
    """None of Ollama's options concerns an embedding: all are told as ignored."""


class EmbeddingFields(KeepAliveFields, EncodingBody):
    """What both bodies share."""

    served_elsewhere: ClassVar = frozenset({"inputs", "messages", "texts"})
    may_be_empty: ClassVar = frozenset({"keep_alive", "options"})

    options: EmbedOptions = Field(default_factory=EmbedOptions)


class EmbedBody(EmbeddingFields):
    """POST /api/embed. Without texts it loads the model."""

    served_elsewhere: ClassVar = EmbeddingFields.served_elsewhere | {"prompt"}

    input: Texts = Field(default_factory=list, description="A text, or up to 2,048 of them.")
    truncate: bool = Field(
        True, description="Cut texts that are too long at their end; otherwise they are refused."
    )
    dimensions: Dimensions | None = Field(
        None, description="Keep so many numbers, for models that were made for it."
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> EmbedBody:
        if not self.input and self.model is None:
            raise ValueError("send an `input`, or a `model` to load")
        return self

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=tuple(self.input),
            purpose=EncodingPurpose.EMBEDDING,
            model=self.model,
            dimensions=self.dimensions,
            is_normalized=True,
            truncation=truncation(is_wanted=self.truncate, keeps_end=False),
            timeout_seconds=timeout_seconds,
        )


class OldEmbedBody(EmbeddingFields):
    """POST /api/embeddings. Without a prompt it loads the model."""

    served_elsewhere: ClassVar = EmbeddingFields.served_elsewhere | {"input"}

    prompt: str = Field("", description="A text, which is cut where it is too long.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> OldEmbedBody:
        if not self.prompt and self.model is None:
            raise ValueError("send a `prompt`, or a `model` to load")
        return self

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=(self.prompt,),
            purpose=EncodingPurpose.EMBEDDING,
            model=self.model,
            truncation=truncation(is_wanted=True, keeps_end=False),
            timeout_seconds=timeout_seconds,
        )
