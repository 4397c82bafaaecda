"""What POST /v1/responses takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from llmserve.api.constraint_fields import ConstraintFields
from llmserve.api.edge.timeouts import earliest
from llmserve.api.fields import Fields
from llmserve.api.no_op import MARK, HintFields, MetadataText
from llmserve.api.responses.prompt_fields import PromptFields
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, CacheSalt, SamplingBody
from llmserve.api.unsupported import SERVED_ELSEWHERE, UNSUPPORTED_FIELDS
from llmserve.domain import Constraint, GenerationRequest, SamplingFields
from llmserve.domain.offered_tools import check_call_or_format

MAX_TOP_LOGPROBS: Final = 20
LOGPROBS: Final = "message.output_text.logprobs"

Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
]
"""All but the first are of items that this server never writes, or writes whole."""


class StreamOptions(Fields):
    """Only with `stream`."""

    may_be_empty: ClassVar = frozenset({"include_obfuscation"})

    include_obfuscation: bool = Field(
        True,
        description="Events of different lengths look alike with `obfuscation`; here they have "
        "none, as false asks for.",
        json_schema_extra=MARK,
    )


class ResponseBody(PromptFields, HintFields, ConstraintFields, SamplingBody):
    """POST /v1/responses."""

    sampling_defaults: ClassVar = SamplingFields(temperature=1.0)
    unsupported: ClassVar = UNSUPPORTED_FIELDS | {
        "context_management", "conversation", "prompt",
    }  # fmt: skip
    served_elsewhere: ClassVar = SERVED_ELSEWHERE | {"max_tokens"}
    may_be_empty: ClassVar = PromptFields.may_be_empty | ConstraintFields.may_be_empty

    max_output_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens."
    )
    max_tool_calls: int | None = Field(
        None,
        ge=1,
        description="Of OpenAI's own tools, which this server does not have.",
        json_schema_extra=MARK,
    )
    include: list[Includable] | None = Field(
        None, max_length=16, description=f"`{LOGPROBS}`: each token's log probability."
    )
    top_logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_TOP_LOGPROBS,
        description="With log probabilities: also those of this many of the likeliest tokens.",
    )
    metadata: dict[Annotated[str, Field(max_length=64)], MetadataText] | None = Field(
        None, max_length=16, description="The client's own labels, which the response repeats."
    )
    stream: bool | None = Field(None, description="Answer as server-sent events.")
    stream_options: StreamOptions | None = None
    store: bool | None = Field(
        None, description="Keep the response, so that others can go on after it."
    )
    background: bool | None = Field(
        None, description="Answer at once, and generate while the client asks how far it is."
    )
    include_reasoning: bool | None = Field(
        None, description="False leaves out what the model thought (vLLM's field)."
    )
    cache_salt: CacheSalt | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, num_top: int | None, others: ValidationInfo) -> int | None:
        if num_top and LOGPROBS not in (others.data.get("include") or ()):
            raise ValueError(f'it is for requests with `include: ["{LOGPROBS}"]`')
        return num_top

    @field_validator("stream_options")
    @classmethod
    def _only_with_stream(
        cls, options: StreamOptions | None, others: ValidationInfo
    ) -> StreamOptions | None:
        if options is not None and not others.data.get("stream"):
            raise ValueError("it is for requests with `stream: true`")
        return options

    @field_validator("background")
    @classmethod
    def _not_both(cls, background: bool | None, others: ValidationInfo) -> bool | None:
        if background and others.data.get("stream"):
            raise ValueError("leave `stream` out, and ask for the response by its id")
        if background and others.data.get("store") is False:
            raise ValueError("a response in the background must be stored; leave `store` out")
        return background

    @model_validator(mode="after")
    def _call_or_format(self) -> ResponseBody:
        check_call_or_format(self.choice, self.constraint())
        return self

    @property
    def tells_logprobs(self) -> bool:
        """Whether the client wants log probabilities of tokens."""
        return LOGPROBS in (self.include or ())

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The one request."""
        num_top = (self.top_logprobs or 0) if self.tells_logprobs else None
        request = GenerationRequest(
            id=request_id,
            prompt=self.conversation(),
            model=self.model,
            sampling=replace(self.sampling(self.max_output_tokens), logprobs=num_top),
            defaults=self.sampling_defaults,
            timeout_seconds=earliest(self.timeout, timeout_seconds),
            cache_salt=self.cache_salt or "",
            constraint=self.constraint(),
            tool_choice=self.choice,
            max_prompt_tokens=self.max_prompt_tokens,
        )
        return [request]

    def _constraints(self) -> Iterator[Constraint]:
        wanted = self.text.constraint() if self.text is not None else None
        if wanted is not None:
            yield wanted
        yield from super()._constraints()
