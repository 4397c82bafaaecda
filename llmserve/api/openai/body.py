"""What the bodies of chats and of text completions share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, model_validator

from llmserve.api.constraint_fields import ConstraintFields
from llmserve.api.edge.timeouts import earliest
from llmserve.api.fields import Fields
from llmserve.api.openai.choices_writer import UsageWanted
from llmserve.api.openai.no_op import MARK, NoOpFields
from llmserve.api.sampling_body import CacheSalt, SamplingBody
from llmserve.domain import GenerationRequest, Prompt, SamplingFields

MAX_CHOICES = 128


class StreamOptions(Fields):
    """Only with `stream`."""

    include_usage: bool = Field(False, description="Send a last chunk with the usage.")
    continuous_usage_stats: bool = Field(
        False, description="With `include_usage`: every chunk has the usage so far (vLLM's field)."
    )
    include_obfuscation: bool = Field(
        True,
        description="Chunks of different lengths look alike with `obfuscation`; here they have "
        "none, as false asks for.",
        json_schema_extra=MARK,
    )


class OpenAIBody(NoOpFields, ConstraintFields, SamplingBody):
    """Several prompts, each with `n` choices. `sampling_defaults` are OpenAI's for the route."""

    sampling_defaults: ClassVar[SamplingFields]

    model: str | None = Field(None, description="A served model; the default one if absent.")
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="Answers per prompt.")
    stream: bool | None = Field(None, description="Answer as server-sent events.")
    stream_options: StreamOptions | None = None
    cache_salt: CacheSalt | None = None

    @model_validator(mode="after")
    def _options_only_with_stream(self) -> OpenAIBody:
        if self.usage_wanted is not UsageWanted.NONE and not self.stream:
            raise ValueError("stream_options is for requests with `stream: true`")
        return self

    @property
    def choices_per_prompt(self) -> int:
        """`n`, 1 when absent."""
        return self.n or 1

    @property
    def usage_wanted(self) -> UsageWanted:
        """Where in a stream the usage is told."""
        options = self.stream_options or StreamOptions()
        if not options.include_usage:
            return UsageWanted.NONE
        is_continuous = options.continuous_usage_stats
        return UsageWanted.IN_EVERY_CHUNK if is_continuous else UsageWanted.AT_THE_END

    @property
    def num_requests(self) -> int:
        """One for each choice of each prompt."""
        return self.num_prompts * self.choices_per_prompt

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The choices of each prompt in turn; those of a seeded request differ, reproducibly."""
        prompts, sampling = self.prompts(), self.wanted_sampling()
        wanted = GenerationRequest(
            id=request_id,
            prompt=prompts[0],
            model=self.model,
            sampling=sampling,
            defaults=self.sampling_defaults,
            timeout_seconds=earliest(self.timeout, timeout_seconds),
            cache_salt=self.cache_salt or "",
            constraint=self.constraint(),
        )
        seed = sampling.seed
        choices = [
            replace(sampling, seed=None if seed is None else seed + i)
            for i in range(self.choices_per_prompt)
        ]
        return [
            replace(wanted, prompt=prompt, sampling=choice)
            for prompt in prompts
            for choice in choices
        ]

    @property
    @abstractmethod
    def num_prompts(self) -> int:
        """How many prompts it has."""

    @abstractmethod
    def prompts(self) -> Sequence[Prompt]:
        """Each prompt, as the service takes it."""

    @abstractmethod
    def wanted_sampling(self) -> SamplingFields:
        """The sampling that the client asked for."""
