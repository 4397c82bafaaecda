"""TGI's `parameters`: how a text goes on, and what is told of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Discriminator, Field, Tag, model_validator

from llmserve.api.fields import Fields
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, SEED_LIMIT, StopStrings
from llmserve.api.unsupported import Defaults
from llmserve.domain import Constraint, ConstraintKind, SamplingFields

MAX_TOP_TOKENS = 20
PARAM = "parameters.grammar"


class RegexGrammar(Fields):
    """The text matches an expression."""

    type: Literal["regex"]
    value: str = Field(min_length=1)

    def constraint(self) -> Constraint:
        """As the service takes it."""
        return Constraint(ConstraintKind.REGEX, self.value, PARAM)


class JSONGrammar(Fields):
    """The text is JSON of a schema, which may be written as text."""

    type: Literal["json"]
    value: dict[str, Any] | str

    def constraint(self) -> Constraint:
        """As the service takes it."""
        return Constraint(ConstraintKind.JSON_SCHEMA, _text(self.value), PARAM)


class NamedSchema(Fields):
    """A JSON schema with a name."""

    name: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")


class SchemaGrammar(Fields):
    """The text is JSON of a schema that has a name."""

    type: Literal["json_schema"]
    value: NamedSchema

    def constraint(self) -> Constraint:
        """As the service takes it."""
        return Constraint(ConstraintKind.JSON_SCHEMA, _text(self.value.schema_), PARAM)


def _kind(sent: Any) -> str:
    kind = sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", None)
    return {"regex": "[regex]", "json_schema": "[named]"}.get(str(kind), "[json]")


Grammar = Annotated[
    Annotated[RegexGrammar, Tag("[regex]")]
    | Annotated[JSONGrammar, Tag("[json]")]
    | Annotated[SchemaGrammar, Tag("[named]")],
    Discriminator(_kind),
]


class Parameters(Fields):
    """Fields with TGI's names and meanings."""

    unsupported: ClassVar = frozenset({"adapter_id", "best_of", "typical_p", "watermark"})
    defaults: ClassVar[Defaults] = {"best_of": (1,), "typical_p": (1, 1.0)}
    may_be_empty: ClassVar = frozenset({"grammar", "stop"})

    max_new_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens (default 100)."
    )
    do_sample: bool | None = Field(
        None, description="Sample, though no other parameter of sampling is there."
    )
    temperature: float | None = Field(
        None, gt=0, le=100, description="1 where it is absent and something is sampled."
    )
    top_k: int | None = Field(None, ge=1, le=MAX_TOKENS_LIMIT)
    top_p: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=0, le=SEED_LIMIT)
    stop: StopStrings | None = Field(
        None, description="Generation ends after the first that comes, which stays in the text."
    )
    truncate: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="Keep the last so many tokens of the prompt."
    )
    return_full_text: bool | None = Field(
        None, description="`generated_text` begins with the prompt."
    )
    details: bool | None = Field(
        None, description="Tell tokens, why it ended, and how many it were; a stream always does."
    )
    decoder_input_details: bool | None = Field(
        None, description="With `details`: the prompt's tokens, too; not in a stream."
    )
    top_n_tokens: int | None = Field(
        None,
        ge=0,
        le=MAX_TOP_TOKENS,
        description="With details: the likeliest tokens in the place of each.",
    )
    grammar: Grammar | None = Field(None, description="What the text must look like.")

    @model_validator(mode="after")
    def _prompt_only_with_details(self) -> Parameters:
        if self.decoder_input_details and not self.details:
            raise ValueError("decoder_input_details is for requests with `details`")
        return self

    def sampling(self, *, tells_tokens: bool) -> SamplingFields:
        """As the service takes them: greedy, unless something speaks of sampling."""
        is_sampled = self.do_sample or any(
            value is not None for value in (self.temperature, self.top_k, self.top_p)
        )
        return SamplingFields(
            max_tokens=self.max_new_tokens,
            temperature=(self.temperature or 1.0) if is_sampled else 0.0,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stop=None if self.stop is None else tuple(self.stop),
            includes_stop=True,
            logprobs=(self.top_n_tokens or 0) if tells_tokens else None,
            prompt_logprobs=0 if self.decoder_input_details else None,
        )

    def constraint(self) -> Constraint | None:
        """What the text must look like, as the service takes it."""
        return None if self.grammar is None else self.grammar.constraint()


def _text(schema: dict[str, Any] | str) -> str:
    return schema if isinstance(schema, str) else orjson.dumps(schema).decode()
