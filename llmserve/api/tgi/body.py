"""What POST / and POST /generate_stream take."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from llmserve.api.generation_body import GenerationBody
from llmserve.api.tgi.parameters import Parameters
from llmserve.domain import GenerationRequest, SamplingFields


class StreamBody(GenerationBody):
    """POST /generate_stream: one text to continue."""

    served_elsewhere: ClassVar = frozenset({"messages", "prompt"})
    may_be_empty: ClassVar = frozenset({"parameters"})
    sampling_defaults: ClassVar = SamplingFields(temperature=1.0, max_tokens=100)

    inputs: str = Field(min_length=1, description="Text to continue.")
    parameters: Parameters = Field(default_factory=Parameters)
    model: str | None = Field(
        None, description="A served model; the default one if absent (not a field of TGI's)."
    )

    @model_validator(mode="after")
    def _no_prompt_in_a_stream(self) -> StreamBody:
        if self.is_streamed and self.parameters.decoder_input_details:
            raise ValueError("decoder_input_details is for requests without a stream")
        return self

    @property
    def is_streamed(self) -> bool:
        """Whether the answer is server-sent events."""
        return True

    @property
    def echoed(self) -> str:
        """What the generated text begins with."""
        return self.inputs if self.parameters.return_full_text else ""

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The one request."""
        parameters = self.parameters
        tells_tokens = self.is_streamed or bool(parameters.details)
        request = GenerationRequest(
            id=request_id,
            prompt=self.inputs,
            model=self.model,
            sampling=parameters.sampling(tells_tokens=tells_tokens),
            defaults=self.sampling_defaults,
            timeout_seconds=timeout_seconds,
            constraint=parameters.constraint(),
            max_prompt_tokens=parameters.truncate,
        )
        return [request]


class RootBody(StreamBody):
    """POST /."""

    stream: bool = Field(False, description="Answer as server-sent events.")

    @property
    def is_streamed(self) -> bool:
        """As it says."""
        return self.stream
