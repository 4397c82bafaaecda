"""Ollama's `options`: how an answer is sampled. Those of its loader and its hardware are told as
ignored."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmserve.api.fields import Fields
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, SEED_LIMIT, StopStrings
from llmserve.api.unsupported import Defaults
from llmserve.domain import SamplingFields


class Options(Fields):
    """Fields with Ollama's names."""

    unsupported: ClassVar = frozenset(
        {"mirostat", "penalize_newline", "repeat_last_n", "tfs_z", "typical_p"}
    )
    defaults: ClassVar[Defaults] = {
        "mirostat": (0,),
        "penalize_newline": (True,),
        "repeat_last_n": (-1, 64),
        "tfs_z": (1, 1.0),
        "typical_p": (1, 1.0),
    }
    may_be_empty: ClassVar = frozenset({"stop"})

    num_predict: int | None = Field(
        None,
        ge=-2,
        le=MAX_TOKENS_LIMIT,
        description="At most this many new tokens; 0 and below: as many as the context holds.",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 is greedy: the likeliest token every time (default 0.8)."
    )
    top_k: int | None = Field(
        None,
        ge=-1,
        le=MAX_TOKENS_LIMIT,
        description="Sample from the k likeliest; 0 or -1: all (default 40).",
    )
    top_p: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Sample from the smallest set of tokens with this mass (default 0.9).",
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="Drop tokens less likely than this times the likeliest."
    )
    seed: int | None = Field(
        None,
        ge=-SEED_LIMIT,
        le=SEED_LIMIT,
        description="Makes sampling reproducible; -1 does not.",
    )
    stop: StopStrings | None = Field(
        None, description="A string or up to 16: generation ends before the first that comes."
    )
    repeat_penalty: float | None = Field(
        None, gt=0, le=10, description="Over prompt and answer; 1 is off (the default)."
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="For tokens that the answer has already."
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Times how often the answer has the token."
    )

    def sampling(self, logprobs: int | None) -> SamplingFields:
        """As the service takes them."""
        limit = self.num_predict or 0
        return SamplingFields(
            max_tokens=limit if limit > 0 else None,
            temperature=self.temperature,
            top_k=None if self.top_k is None else max(0, self.top_k),
            top_p=self.top_p,
            min_p=self.min_p,
            seed=None if self.seed == -1 else self.seed,
            stop=None if self.stop is None else tuple(self.stop),
            repetition_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logprobs=logprobs,
        )
