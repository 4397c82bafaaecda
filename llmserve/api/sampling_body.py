"""The sampling fields that every dialect shares, as a client may send them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, Field

from llmserve.api.generation_body import GenerationBody
from llmserve.api.unsupported import SERVED_ELSEWHERE, UNSUPPORTED_FIELDS
from llmserve.domain import SamplingFields

T = TypeVar("T")

MAX_TOKENS_LIMIT = 10_000_000
"""Far beyond any context: a bound on integers until the model is known."""

MAX_TOKEN_ID = 2**31 - 1
SEED_LIMIT = 2**63 - 1
MAX_STOPS = 16
MAX_STOP_TOKENS = 64
MAX_BAD_WORDS = 64
MAX_ALLOWED_TOKENS = 4096
MAX_BIASED_TOKENS = 1024


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _few(bias: Any) -> Any:
    if isinstance(bias, dict) and len(bias) > MAX_BIASED_TOKENS:
        raise ValueError(f"{len(bias)} tokens have a bias and at most {MAX_BIASED_TOKENS} may")
    return bias


StopStrings = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=512)]],
    Field(max_length=MAX_STOPS),
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


TokenId = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]

# fail_fast: a body of megabytes would otherwise have a million errors, one for each item.
StopTokenIds = Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKENS, fail_fast=True)]
BadWord = Annotated[str, Field(min_length=1, max_length=128)]
BadWordList = Annotated[list[BadWord], Field(max_length=MAX_BAD_WORDS, fail_fast=True)]
AllowedTokenIds = Annotated[
    list[TokenId], Field(min_length=1, max_length=MAX_ALLOWED_TOKENS, fail_fast=True)
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
    include_stop_str_in_output: bool | None = Field(
        None, description="Keep the stop string, or the text of the token, that ended the answer."
    )
    skip_special_tokens: bool | None = Field(
        None, description="Leave special tokens out of the text (the default)."
    )
    thinking_token_budget: int | None = Field(
        None,
        ge=0,
        le=MAX_TOKENS_LIMIT,
        description="End the reasoning after this many tokens, so that the answer begins.",
    )
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
            stop=_tuple(self.stop),
            seed=self.seed,
            ignore_eos=self.ignore_eos,
            includes_stop=self.include_stop_str_in_output,
            skips_special_tokens=self.skip_special_tokens,
            thinking_budget=self.thinking_token_budget,
        )


class SamplingBody(SamplingQuery):
    """And what only a JSON body can contain."""

    logit_bias: LogitBias | None = Field(
        None, description="Added to the logits of these token ids: -100 bans, 100 all but forces."
    )
    stop_token_ids: StopTokenIds | None = Field(
        None,
        description="These tokens end the answer, too: their text is left out, `min_tokens` holds "
        "them back, and `ignore_eos` does not concern them.",
    )
    bad_words: BadWordList | None = Field(
        None,
        description="Never generated, with or without a space before them. What is banned is how "
        "the tokenizer writes each: other tokens may spell the same, and a longer word that is "
        "written with tokens of its own may contain it. Where nothing else could come, the ban "
        "gives way.",
    )
    allowed_token_ids: AllowedTokenIds | None = Field(
        None,
        description="Only these tokens are generated. If no end-of-sequence token is among them, "
        "the answer ends at `max_tokens` or a stop string.",
    )

    def sampling(self, max_tokens: int | None) -> SamplingFields:
        """These fields, as the service takes them."""
        bias = self.logit_bias
        return replace(
            super().sampling(max_tokens),
            logit_bias=None if bias is None else tuple((int(i), bias[i]) for i in bias),
            stop_token_ids=_tuple(self.stop_token_ids),
            bad_words=_tuple(self.bad_words),
            allowed_token_ids=_tuple(self.allowed_token_ids),
        )


def _tuple(listed: list[T] | None) -> tuple[T, ...] | None:
    return None if listed is None else tuple(listed)
