"""What POST /v1/rerank and POST /v2/rerank take."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from llmserve.api.encoding_body import MAX_INPUTS, MaxTokens
from llmserve.api.fields import Fields
from llmserve.api.no_op import MARK
from llmserve.api.truncation_fields import TruncationFields
from llmserve.api.unsupported import DEFAULTS, Defaults
from llmserve.domain import EncodingPurpose, EncodingRequest, TextPair


class Document(Fields):
    """A text; other fields beside it are not read."""

    unsupported: ClassVar = frozenset({"image", "image_url"})

    text: str


def _documents(sent: Any) -> Any:
    if not isinstance(sent, list):
        return sent
    return [{"text": one} if isinstance(one, str) else one for one in sent]


Documents = Annotated[
    list[Document],
    Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True),
    BeforeValidator(_documents, json_schema_input_type=list[str | Document]),
]


class RerankBody(TruncationFields):
    """Cohere's fields, of both versions, and those that Jina and vLLM have beside them."""

    unsupported: ClassVar = frozenset(
        {
            "add_special_tokens", "chat_template", "chat_template_kwargs", "instruction",
            "mm_processor_kwargs", "rank_fields", "return_embeddings", "top_k", "use_activation",
        }
    )  # fmt: skip
    served_elsewhere: ClassVar = frozenset(
        {"input", "inputs", "messages", "prompt", "queries", "text_1", "text_2", "texts"}
    )
    defaults: ClassVar[Defaults] = {
        **DEFAULTS,
        "add_special_tokens": (True,),
        "rank_fields": (["text"],),
        "use_activation": (True,),
    }

    query: str = Field(description="What is looked for.")
    documents: Documents = Field(
        description="Texts, or objects with a `text`; up to 2,048 of them."
    )
    top_n: int | None = Field(None, ge=1, description="Return the best so many; all if absent.")
    return_documents: bool | None = Field(None, description="Return the texts beside their scores.")
    max_tokens_per_doc: MaxTokens | None = Field(
        None,
        description="Cut longer documents. The query's tokens count, too, and never are more read "
        "than the model takes.",
    )
    user: str | None = Field(
        None,
        description="The client's name for its user; callers are told apart by their keys.",
        json_schema_extra=MARK,
    )

    @model_validator(mode="after")
    def _one_bound(self) -> RerankBody:
        if self.max_tokens_per_doc is not None and self.truncate_prompt_tokens is not None:
            raise ValueError(
                "max_tokens_per_doc and truncate_prompt_tokens both say where documents are cut; "
                "send one of them"
            )
        return self

    @property
    def truncates(self) -> bool:
        return True  # as Cohere does

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=tuple(TextPair(self.query, one.text) for one in self.documents),
            purpose=EncodingPurpose.SCORE,
            model=self.model,
            truncation=self.truncation,
            max_tokens=self.max_tokens_per_doc or self.max_tokens_per_input,
            timeout_seconds=self.seconds(timeout_seconds),
        )
