"""The sampling fields that every dialect shares, as a client may send them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from llmserve.api.generation_body import GenerationBody
from llmserve.api.unsupported import SERVED_ELSEWHERE, UNSUPPORTED_FIELDS
from llmserve.domain import SamplingFields

MAX_TOKENS_LIMIT = 10_000_000
"""Far beyond any context: a bound on integers until the model is known."""

SEED_LIMIT = 2**63 - 1
MAX_BIASED_TOKENS = 1024


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _few(bias: Any) -> Any:
    if isinstance(bias, dict) and len(bias) > MAX_BIASED_TOKENS:
        raise ValueError(f"{len(bias)} tokens have a bias and at most {MAX_BIASED_TOKENS} may")
    return bias


StopStrings = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=512)]],
    Field(max_length=16),
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
]


CacheSalt = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        description="Share cached prefixes with requests of the same salt only (vLLM's field).",
    ),
]

LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,9})$")],
        Annotated[float, Field(ge=-100, le=100)],
    ],
    Field(max_length=MAX_BIASED_TOKENS, json_schema_extra={"additionalProperties": False}),
    # Before the items are validated: a body of megabytes would have a million errors.
    BeforeValidator(_few),
]


class SamplingQuery(GenerationBody):
    """Fields with OpenAI's and vLLM's names and ranges."""

    unsupported: ClassVar = UNSUPPORTED_FIELDS
    served_elsewhere: ClassVar = SERVED_ELSEWHERE

    temperature: float | None = Field(
        None, ge=0, le=2, description="0 is greedy: the likeliest token every time."
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="Sample from the smallest set of tokens with this mass."
    )
    top_k: int | None = Field(
        None, ge=-1, le=MAX_TOKENS_LIMIT, description="Sample from the k likeliest; 0 or -1: all."
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="Drop tokens less likely than this times the likeliest."
    )
    repetition_penalty: float | None = Field(
        None, gt=0, le=10, description="Over prompt and answer; 1 is off."
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="For tokens that the answer has already."
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Times how often the answer has the token."
    )
    stop: StopStrings | None = Field(
        None, description="A string or up to 16: generation ends before the first that comes."
    )
    seed: int | None = Field(
        None, ge=-SEED_LIMIT, le=SEED_LIMIT, description="Makes sampling reproducible."
    )
    min_tokens: int | None = Field(
        None, ge=0, le=MAX_TOKENS_LIMIT, description="No end of sequence before this many tokens."
    )
    ignore_eos: bool | None = Field(None, description="Go on after an end-of-sequence token.")
    timeout: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="Seconds until the answer must end; what there is by then is returned.",
    )

    def sampling(self, max_tokens: int | None) -> SamplingFields:
        """These fields, as the service takes them."""
        return SamplingFields(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=None if self.top_k is None else max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            stop=None if self.stop is None else tuple(self.stop),
            seed=self.seed,
            ignore_eos=self.ignore_eos,
        )


class SamplingBody(SamplingQuery):
    """And what only a JSON body can contain."""

    logit_bias: LogitBias | None = Field(
        None, description="Added to the logits of these token ids: -100 bans, 100 all but forces."
    )

    def sampling(self, max_tokens: int | None) -> SamplingFields:
        """These fields, as the service takes them."""
        fields = super().sampling(max_tokens)
        if self.logit_bias is None:
            return fields
        bias = tuple((int(token_id), value) for token_id, value in self.logit_bias.items())
        return replace(fields, logit_bias=bias)
