"""What POST /v1/embeddings takes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from llmserve.api.encoding_body import Dimensions, Inputs, inputs_of
from llmserve.api.input_type import PROMPTS, InputType
from llmserve.api.no_op import MARK
from llmserve.api.truncation_fields import TruncationFields
from llmserve.api.unsupported import DEFAULTS, Defaults
from llmserve.domain import EncodingPurpose, EncodingRequest

WORDS: Final = {True: "END", False: "NONE"}


def _word(sent: Any) -> Any:
    return WORDS[sent] if isinstance(sent, bool) else sent


Truncate = Annotated[
    Literal["NONE", "START", "END"],
    BeforeValidator(_word, json_schema_input_type=bool | Literal["NONE", "START", "END"]),
]


class EmbeddingBody(TruncationFields):
    """OpenAI's fields, and those that vLLM and other servers have beside them."""

    unsupported: ClassVar = frozenset(
        {
            "add_generation_prompt", "add_special_tokens", "chat_template", "chat_template_kwargs",
            "continue_final_message", "embed_dtype", "embedding_type", "embedding_types",
            "endianness", "images", "instruction", "late_chunking", "mm_processor_kwargs",
            "normalized", "output_dimension", "output_dtype", "task", "use_activation",
        }
    )  # fmt: skip
    served_elsewhere: ClassVar = frozenset({"documents", "inputs", "messages", "prompt", "texts"})
    defaults: ClassVar[Defaults] = {
        **DEFAULTS,
        "add_special_tokens": (True,),
        "embed_dtype": ("float32",),
        "embedding_type": ("float",),
        "embedding_types": (["float"],),
        "endianness": ("native", "little"),
        "output_dtype": ("float",),
    }

    input: Inputs = Field(description="A text, up to 2,048 of them, token ids or lists of these.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="Numbers, or the bytes of float32 numbers, the least significant first."
    )
    dimensions: Dimensions | None = Field(
        None, description="Keep so many numbers, for models that were made for it."
    )
    user: str | None = Field(
        None,
        description="The client's name for its user; callers are told apart by their keys.",
        json_schema_extra=MARK,
    )
    cache_salt: str | None = Field(
        None,
        description="No embedding is cached, so none is shared (vLLM's field).",
        json_schema_extra=MARK,
    )
    normalize: bool | None = Field(
        None, description="Whether embeddings have length 1; as the model was made if absent."
    )
    prompt_name: str | None = Field(
        None, max_length=256, description="Which of the model's prompts comes before each text."
    )
    input_type: InputType | None = Field(
        None,
        description="What the texts are for: the model's prompt of this kind comes before each, if "
        "it has one (Cohere's, Voyage's and NVIDIA's field).",
    )
    truncate: Truncate | None = Field(
        None,
        description="True or `END` keeps the beginning of an input that is too long, `START` its "
        "end (Jina's and NVIDIA's field).",
    )

    @model_validator(mode="after")
    def _one_way_each(self) -> EmbeddingBody:
        if self.prompt_name is not None and self.input_type is not None:
            raise ValueError("prompt_name and input_type both choose a prompt; send one of them")
        if self.truncate is not None and super().truncates:
            raise ValueError(
                "truncate says what truncate_prompt_tokens and truncation_side say; send one way"
            )
        return self

    @property
    def truncates(self) -> bool:
        return super().truncates or self.truncate not in (None, "NONE")

    @property
    def keeps_end(self) -> bool:
        return super().keeps_end or self.truncate == "START"

    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        by_type = None if self.input_type is None else PROMPTS[self.input_type]
        return EncodingRequest(
            id=request_id,
            inputs=inputs_of(self.input),
            purpose=EncodingPurpose.EMBEDDING,
            model=self.model,
            prompt_name=by_type if self.prompt_name is None else self.prompt_name,
            may_lack_prompt=by_type is not None,
            dimensions=self.dimensions,
            is_normalized=self.normalize,
            truncation=self.truncation,
            max_tokens=self.max_tokens_per_input,
            timeout_seconds=self.seconds(timeout_seconds),
        )
