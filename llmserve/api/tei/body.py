"""What text-embeddings-inference's routes take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from llmserve.api.encoding_body import (
    MAX_INPUTS,
    Dimensions,
    EncodingBody,
    Inputs,
    Texts,
    inputs_of,
    truncation,
)
from llmserve.api.fields import Fields
from llmserve.domain import EncodingInput, EncodingPurpose, EncodingRequest, TextPair, Truncation


def _lower(sent: Any) -> Any:
    return sent.lower() if isinstance(sent, str) else sent


class CutFields(Fields):
    """What becomes of inputs that are too long."""

    truncate: bool | None = Field(
        None, description="Cut inputs that are too long; otherwise they are refused."
    )
    truncation_direction: (
        Annotated[
            Literal["left", "right"],
            BeforeValidator(_lower, json_schema_input_type=Literal["Left", "Right"]),
        ]
        | None
    ) = Field(None, description="Where: `Right` keeps the beginning (the default), `Left` the end.")

    @property
    def truncation(self) -> Truncation:
        """As the service takes it."""
        return truncation(
            is_wanted=bool(self.truncate), keeps_end=self.truncation_direction == "left"
        )


class TEIBody(EncodingBody):
    """What all bodies share."""

    model: str | None = Field(
        None,
        description="A served model; the first that can do this if absent (not a field of TEI's).",
    )


class EmbedBody(CutFields, TEIBody):
    """POST /embed."""

    served_elsewhere: ClassVar = frozenset({"input", "parameters", "prompt", "texts"})

    inputs: Inputs = Field(description="A text, up to 2,048 of them, token ids or lists of these.")
    normalize: bool | None = Field(
        None, description="False leaves embeddings as long as the model makes them."
    )
    prompt_name: str | None = Field(
        None, max_length=256, description="Which of the model's prompts comes before each text."
    )
    dimensions: Dimensions | None = Field(
        None, description="Keep so many numbers, for models that were made for it."
    )

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=inputs_of(self.inputs),
            purpose=EncodingPurpose.EMBEDDING,
            model=self.model,
            prompt_name=self.prompt_name,
            dimensions=self.dimensions,
            is_normalized=self.normalize is not False,
            truncation=self.truncation,
            timeout_seconds=timeout_seconds,
        )


class TextsBody(CutFields, TEIBody):
    """POST /rerank, where it has `texts`."""

    unsupported: ClassVar = frozenset({"raw_scores"})
    served_elsewhere: ClassVar = frozenset({"documents", "input", "inputs", "parameters"})

    query: str = Field(description="What is looked for.")
    texts: Texts = Field(description="Up to 2,048 texts.")
    return_text: bool | None = Field(None, description="Return the texts beside their scores.")

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=tuple(TextPair(self.query, text) for text in self.texts),
            purpose=EncodingPurpose.SCORE,
            model=self.model,
            truncation=self.truncation,
            timeout_seconds=timeout_seconds,
        )


TextOrPair = Annotated[list[str], Field(min_length=1, max_length=2)]


def _kind(inputs: Any) -> str:
    if not isinstance(inputs, list):
        return "str"
    return "list[list[str]]" if inputs and isinstance(inputs[0], list) else "list[str]"


# A list of two texts is a pair, as TEI has it; several inputs are a list of lists.
PredictInputs = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[TextOrPair, Tag("list[str]")]
    | Annotated[
        list[TextOrPair],
        Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True),
        Tag("list[list[str]]"),
    ],
    Discriminator(_kind),
]


class PredictBody(CutFields, TEIBody):
    """POST /predict."""

    served_elsewhere: ClassVar = frozenset({"input", "parameters", "query", "texts"})

    inputs: PredictInputs = Field(
        description="A text, a pair `[a, b]`, or several as `[[a], [b, c]]`."
    )
    raw_scores: bool | None = Field(None, description="Return logits in place of probabilities.")

    @property
    def is_one(self) -> bool:
        """Whether the answer is that of one input, and not a list of answers."""
        return isinstance(self.inputs, str) or isinstance(self.inputs[0], str)

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=_inputs(self.inputs),
            purpose=EncodingPurpose.CLASSIFICATION,
            model=self.model,
            truncation=self.truncation,
            timeout_seconds=timeout_seconds,
        )


class Comparison(Fields):
    """A text, and others to compare it with."""

    source_sentence: str
    sentences: Texts


class SimilarityParameters(CutFields):
    """How they are read."""

    prompt_name: str | None = Field(
        None, max_length=256, description="Which of the model's prompts comes before each text."
    )


class SimilarityBody(TEIBody):
    """POST /similarity."""

    served_elsewhere: ClassVar = frozenset({"input", "query", "texts", "truncate"})
    may_be_empty: ClassVar = frozenset({"parameters"})

    inputs: Comparison
    parameters: SimilarityParameters = Field(default_factory=SimilarityParameters)

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        return EncodingRequest(
            id=request_id,
            inputs=(self.inputs.source_sentence, *self.inputs.sentences),
            purpose=EncodingPurpose.EMBEDDING,
            model=self.model,
            prompt_name=self.parameters.prompt_name,
            is_normalized=True,
            truncation=self.parameters.truncation,
            timeout_seconds=timeout_seconds,
        )


def _inputs(sent: str | Sequence[str] | Sequence[Sequence[str]]) -> tuple[EncodingInput, ...]:
    if isinstance(sent, str):
        return (sent,)
    match sent:
        case [str()]:
            return (sent[0],)
        case [str(), str()]:
            return (TextPair(sent[0], sent[1]),)
    return tuple(one for several in sent for one in _inputs(several))
