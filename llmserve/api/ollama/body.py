"""What Ollama's two bodies for generations share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal

import orjson
from pydantic import Field, ValidationInfo, field_validator

from llmserve.api.generation_body import GenerationBody
from llmserve.api.ollama.keep_alive import KeepAliveFields
from llmserve.api.ollama.options import Options
from llmserve.api.unsupported import Defaults
from llmserve.domain import (
    Constraint,
    ConstraintKind,
    GenerationRequest,
    Prompt,
    SamplingFields,
)

MAX_TOP_LOGPROBS: Final = 20


class OllamaBody(KeepAliveFields, GenerationBody):
    """One prompt or conversation, whose answer is streamed unless `stream` is false."""

    unsupported: ClassVar = frozenset(
        {"context", "height", "images", "steps", "suffix", "template", "width"}
    )
    served_elsewhere: ClassVar = frozenset(
        {
            "max_completion_tokens", "max_new_tokens", "max_tokens", "messages", "n", "prompt",
            "raw", "response_format", "stop", "system", "tool_choice", "tools",
        }
    )  # fmt: skip
    defaults: ClassVar[Defaults] = {"shift": (True, False), "truncate": (True, False)}
    may_be_empty: ClassVar = frozenset({"format", "keep_alive", "options", "tools"})
    sampling_defaults: ClassVar = SamplingFields(temperature=0.8, top_k=40, top_p=0.9)

    stream: bool = Field(True, description="Answer as lines of JSON as the text comes.")
    format: Literal["json"] | dict[str, Any] | None = Field(
        None, description="`json` for any JSON object, or a JSON schema."
    )
    options: Options = Field(default_factory=Options)
    think: bool | Literal["low", "medium", "high", "max"] | None = Field(
        None,
        description="Whether the model thinks before it answers, or how much; what it thinks is "
        "`thinking`.",
    )
    logprobs: bool | None = Field(None, description="Return each token's log probability.")
    top_logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_TOP_LOGPROBS,
        description="With `logprobs`: also those of this many of the likeliest tokens.",
    )

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, num_top: int | None, others: ValidationInfo) -> int | None:
        if num_top and not others.data.get("logprobs"):
            raise ValueError("it is for requests with `logprobs: true`")
        return num_top

    @property
    @abstractmethod
    def asks_to_load(self) -> bool:
        """Whether there is nothing to answer: the model is to be loaded, no more."""

    @abstractmethod
    def prompt_or_conversation(self) -> Prompt:
        """As the service takes it."""

    @property
    def shows_thinking(self) -> bool:
        """Whether the client wants to read what the model thinks."""
        return self.think is not False

    def requests(self, request_id: str, timeout_seconds: float | None) -> list[GenerationRequest]:
        """The one request."""
        request = GenerationRequest(
            id=request_id,
            prompt=self.prompt_or_conversation(),
            model=self.model,
            sampling=self.options.sampling((self.top_logprobs or 0) if self.logprobs else None),
            defaults=self.sampling_defaults,
            timeout_seconds=timeout_seconds,
            constraint=self._constraint(),
        )
        return [request]

    def template_options(self) -> str:
        """Variables of the chat template, as JSON."""
        return orjson.dumps(dict(self._thinking())).decode()

    def _thinking(self) -> Iterator[tuple[str, Any]]:
        """By the names that templates have for it."""
        if self.think is None:
            return
        yield "enable_thinking", self.think is not False
        yield "thinking", self.think is not False
        if isinstance(self.think, str):
            yield "reasoning_effort", self.think

    def _constraint(self) -> Constraint | None:
        match self.format:
            case None:
                return None
            case "json":
                return Constraint(ConstraintKind.JSON_OBJECT, param="format")
            case schema:
                source = orjson.dumps(schema).decode()
                return Constraint(ConstraintKind.JSON_SCHEMA, source, param="format")
