"""What POST /v1/score and POST /classify take."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from llmserve.api.encoding_body import Inputs, Texts, inputs_of
from llmserve.api.no_op import MARK
from llmserve.api.truncation_fields import TruncationFields
from llmserve.api.unsupported import DEFAULTS, Defaults
from llmserve.domain import EncodingPurpose, EncodingRequest, TextPair


def _listed(sent: object) -> object:
    return [sent] if isinstance(sent, str) else sent


TextOrTexts = Annotated[Texts, BeforeValidator(_listed, json_schema_input_type=str | list[str])]
FIRST: tuple[str, ...] = ("text_1", "queries", "data_1")
SECOND: tuple[str, ...] = ("text_2", "documents", "items", "data_2")


class PoolingBody(TruncationFields):
    """What both bodies share."""

    unsupported: ClassVar = frozenset(
        {
            "activation", "add_generation_prompt", "add_special_tokens", "chat_template",
            "chat_template_kwargs", "continue_final_message", "dimensions", "instruction",
            "mm_processor_kwargs",
        }
    )  # fmt: skip
    served_elsewhere: ClassVar = frozenset({"inputs", "messages", "prompt", "query", "texts"})
    defaults: ClassVar[Defaults] = {
        **DEFAULTS, "activation": (True,), "add_special_tokens": (True,),
    }  # fmt: skip

    user: str | None = Field(
        None,
        description="The client's name for its user; callers are told apart by their keys.",
        json_schema_extra=MARK,
    )


class ScoreBody(PoolingBody):
    """POST /v1/score: one text with each of others, or each with the one in its place."""

    unsupported: ClassVar = PoolingBody.unsupported | {"use_activation"}
    served_elsewhere: ClassVar = PoolingBody.served_elsewhere | {"input"}
    defaults: ClassVar[Defaults] = {**PoolingBody.defaults, "use_activation": (True,)}

    text_1: TextOrTexts | None = Field(None, description="A text, or several.")
    text_2: TextOrTexts | None = Field(
        None, description="What it is compared with: up to 2,048, or as many as `text_1` has."
    )
    queries: TextOrTexts | None = Field(None, description="Another name of `text_1`.")
    documents: TextOrTexts | None = Field(None, description="Another name of `text_2`.")
    items: TextOrTexts | None = Field(None, description="Another name of `text_2`.")
    data_1: TextOrTexts | None = Field(None, description="Another name of `text_1`.")
    data_2: TextOrTexts | None = Field(None, description="Another name of `text_2`.")

    @model_validator(mode="after")
    def _pairs_up(self) -> ScoreBody:
        first, second = self._only(FIRST), self._only(SECOND)
        if len(first) not in (1, len(second)):
            raise ValueError(
                f"text_1 has {len(first)} texts and text_2 has {len(second)}; send one text_1 for "
                "all, or as many of both"
            )
        return self

    @property
    def pairs(self) -> tuple[TextPair, ...]:
        """What is scored, in the order of the answer."""
        first, second = self._only(FIRST), self._only(SECOND)
        if len(first) == 1:
            first = first * len(second)
        return tuple(map(TextPair, first, second))

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=self.pairs,
            purpose=EncodingPurpose.SCORE,
            model=self.model,
            truncation=self.truncation,
            max_tokens=self.max_tokens_per_input,
            timeout_seconds=self.seconds(timeout_seconds),
        )

    def _only(self, names: tuple[str, ...]) -> list[str]:
        """
        Raises:
            ValueError: none of these fields is there, or several are.
        """
        sent = [value for name in names if (value := getattr(self, name)) is not None]
        if len(sent) != 1:
            raise ValueError(f"send one of {', '.join(names)}")
        texts: list[str] = sent[0]
        return texts


class ClassifyBody(PoolingBody):
    """POST /classify."""

    served_elsewhere: ClassVar = PoolingBody.served_elsewhere | {"documents", "text_1", "text_2"}

    input: Inputs = Field(description="A text, up to 2,048 of them, token ids or lists of these.")
    use_activation: bool | None = Field(
        None, description="False returns logits in place of probabilities."
    )

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=inputs_of(self.input),
            purpose=EncodingPurpose.CLASSIFICATION,
            model=self.model,
            truncation=self.truncation,
            max_tokens=self.max_tokens_per_input,
            timeout_seconds=self.seconds(timeout_seconds),
        )
