"""How tokens are chosen, from a message, with the ranges that JSON bodies have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmserve.domain import SamplingFields
from llmserve.errors import InvalidRequest
from llmserve.proto.v1 import generation_pb2 as pb

MAX_TOKENS: Final = 10_000_000
MAX_TOKEN_ID: Final = 2**31 - 1
MAX_SEED: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be, or each entry of a list, or how long each of its texts may be; `count`
    is how many entries there may be."""

    least: float
    most: float
    count: int = 0
    excludes_least: bool = False

    def has(self, value: float) -> bool:
        """Whether it is inside; NaN is not."""
        return self.least <= value <= self.most and not (
            self.excludes_least and value == self.least
        )

    def __str__(self) -> str:
        word = "more than" if self.excludes_least else "from"
        return f"{word} {self.least:g} to {self.most:g}"


RANGES: Final[Mapping[str, Range]] = {
    "max_tokens": Range(0, MAX_TOKENS),
    "min_tokens": Range(0, MAX_TOKENS),
    "temperature": Range(0, 2),
    "top_p": Range(0, 1),
    "top_k": Range(0, MAX_TOKENS),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(0, 10, excludes_least=True),
    "presence_penalty": Range(-2, 2),
    "frequency_penalty": Range(-2, 2),
    "seed": Range(-MAX_SEED, MAX_SEED),
    "logprobs": Range(0, 20),
    "prompt_logprobs": Range(0, 20),
    "thinking_token_budget": Range(0, MAX_TOKENS),
    "stop": Range(1, 512, count=16),
    "stop_token_ids": Range(0, MAX_TOKEN_ID, count=64),
    "bad_words": Range(1, 128, count=64),
    "allowed_token_ids": Range(0, MAX_TOKEN_ID, count=4096),
    "logit_bias": Range(-100, 100, count=1024),
}
"""A test compares them with those of JSON bodies."""

NAMES: Final = {
    "include_stop_in_output": "includes_stop",
    "skip_special_tokens": "skips_special_tokens",
    "thinking_token_budget": "thinking_budget",
}
"""Fields that the service calls otherwise."""


def sampling_of(sent: pb.Sampling, param: str) -> SamplingFields:
    """As the service takes it; `param` is where the message was.

    Raises:
        InvalidRequest: a value is out of its range.
    """
    fields: dict[str, Any] = {}
    for field, value in sent.ListFields():
        name = field.name
        if name == "logit_bias":
            value = tuple(sorted(value.items()))
            _check_count(value, RANGES[name], param, name)
            _check_all([bias for _, bias in value], RANGES[name], param, name)
        elif name in RANGES and RANGES[name].count:
            value = tuple(value)
            _check_count(value, RANGES[name], param, name)
            sizes = [len(entry) if isinstance(entry, str) else entry for entry in value]
            _check_all(sizes, RANGES[name], param, name)
        elif name in RANGES:
            _check_all([value], RANGES[name], param, name)
        fields[NAMES.get(name, name)] = value
    return SamplingFields(**fields)


def _check_count(value: tuple[object, ...], allowed: Range, param: str, name: str) -> None:
    if len(value) > allowed.count:
        raise InvalidRequest(
            f"{name} has {len(value):,} entries and may have {allowed.count:,}",
            param=f"{param}.{name}",
        )


def _check_all(values: Iterable[float], allowed: Range, param: str, name: str) -> None:
    for value in values:
        if not allowed.has(value):
            what = "a text's length" if name in ("stop", "bad_words") else "a value"
            raise InvalidRequest(
                f"{name} has {what} of {value}; it may be {allowed}", param=f"{param}.{name}"
            )
