"""What the bodies of chats and of text completions share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from llmserve.api.constraint_fields import ConstraintFields
from llmserve.api.edge.timeouts import earliest
from llmserve.api.fields import Fields
from llmserve.api.no_op import MARK
from llmserve.api.openai.no_op import NoOpFields
from llmserve.api.openai.shown import Shown, UsageWanted
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, CacheSalt, SamplingBody
from llmserve.domain import GenerationRequest, Prompt, SamplingFields

MAX_CHOICES = 128
MAX_PROMPT_LOGPROBS = 20


class StreamOptions(Fields):
    """Only with `stream`."""

    may_be_empty: ClassVar = frozenset({"include_obfuscation"})

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
    prompt_logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_PROMPT_LOGPROBS,
        description="Return log probability and rank of each prompt token, and of this many of the "
        "likeliest in its place (vLLM's field); not with `stream`.",
    )
    truncate_prompt_tokens: int | None = Field(
        None,
        ge=-1,
        le=MAX_TOKENS_LIMIT,
        description="Keep only the last so many tokens of a longer prompt; -1: as many as the "
        "model's context has room for beside `max_tokens` (vLLM's field).",
    )
    return_token_ids: bool | None = Field(
        None, description="Return the token ids of prompt and answer (vLLM's field)."
    )
    return_tokens_as_token_ids: bool | None = Field(
        None, description="With `logprobs`: tokens are written `token_id:123` (vLLM's field)."
    )

    @model_validator(mode="after")
    def _options_only_with_stream(self) -> OpenAIBody:
        if self.usage_wanted is not UsageWanted.NONE and not self.stream:
            raise ValueError("stream_options is for requests with `stream: true`")
        return self

    @field_validator("prompt_logprobs")
    @classmethod
    def _whole_answers_only(cls, num_top: int | None, others: ValidationInfo) -> int | None:
        if num_top is not None and others.data.get("stream"):
            raise ValueError("it is for requests without `stream`; /v1/completions streams `echo`")
        return num_top

    @field_validator("truncate_prompt_tokens")
    @classmethod
    def _some_tokens(cls, most: int | None) -> int | None:
        if most == 0:
            raise ValueError("0 would leave nothing of the prompt; send at least 1, or -1")
        return most

    @model_validator(mode="after")
    def _names_only_with_logprobs(self) -> OpenAIBody:
        if self.return_tokens_as_token_ids and not self.tells_logprobs:
            raise ValueError("return_tokens_as_token_ids is for requests with `logprobs`")
        return self

    @property
    def tells_logprobs(self) -> bool:
        """Whether the client wants log probabilities of tokens."""
        return self.wanted_sampling().logprobs is not None

    @property
    def shown(self) -> Shown:
        """What its choices contain."""
        return Shown(
            logprobs=self.tells_logprobs,
            prompt_logprobs=self.prompt_logprobs,
            token_ids=bool(self.return_token_ids),
            tokens_as_ids=bool(self.return_tokens_as_token_ids),
            usage=self.usage_wanted,
            service_tier=self.service_tier is not None,
        )

    @property
    def choices_per_prompt(self) -> int:
        """How many are generated: `n`, 1 when absent."""
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

    @property
    def scored_top(self) -> int | None:
        """How many of the likeliest tokens are wanted in each place of the prompt, if any."""
        return self.prompt_logprobs

    @property
    def adds_special_tokens(self) -> bool:
        """Whether a raw text begins with what the tokenizer puts before every text."""
        return True

    @property
    def shows_token_ids(self) -> str:
        """The field that asks for ids of tokens; empty for none."""
        named = ("return_token_ids", "return_tokens_as_token_ids")
        return next((name for name in named if getattr(self, name)), "")

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The choices of each prompt in turn; those of a seeded request differ, reproducibly."""
        prompts = self.prompts()
        sampling = replace(self.wanted_sampling(), prompt_logprobs=self.scored_top)
        wanted = GenerationRequest(
            id=request_id,
            prompt=prompts[0],
            model=self.model,
            sampling=sampling,
            defaults=self.sampling_defaults,
            timeout_seconds=earliest(self.timeout, timeout_seconds),
            cache_salt=self.cache_salt or "",
            constraint=self.constraint(),
            max_prompt_tokens=self.truncate_prompt_tokens,
            adds_special_tokens=self.adds_special_tokens,
            shows_token_ids=self.shows_token_ids,
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
