"""Ranges first: they are those of JSON bodies."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.api.openai.body import MAX_PROMPT_LOGPROBS
from llmserve.api.openai.chat_body import MAX_TOP_LOGPROBS
from llmserve.api.sampling_body import (
    MAX_ALLOWED_TOKENS,
    MAX_BAD_WORDS,
    MAX_BIASED_TOKENS,
    MAX_STOP_TOKENS,
    MAX_STOPS,
    MAX_TOKEN_ID,
    MAX_TOKENS_LIMIT,
    SamplingBody,
)
from llmserve.domain import SamplingFields
from llmserve.errors import InvalidRequest
from llmserve.grpc.sampling import RANGES, sampling_of
from llmserve.proto.v1 import generation_pb2 as pb


def bounds(name: str) -> dict[str, Any]:
    """What a JSON body says of the field."""
    found: dict[str, Any] = {}
    for limit in SamplingBody.model_fields[name].metadata:
        for kind in ("ge", "gt", "le"):
            if hasattr(limit, kind):
                found[kind] = getattr(limit, kind)
    return found


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, allowed in RANGES.items()
        if not allowed.count and name in SamplingBody.model_fields
    ],
)
def test_the_ranges_are_those_of_json_bodies(name: str) -> None:
    allowed, body = RANGES[name], bounds(name)
    least = body.get("gt", body.get("ge"))
    assert (allowed.least, allowed.most) == (
        max(least, 0) if name == "top_k" else least,
        body["le"],
    )
    assert allowed.excludes_least is ("gt" in body)


def test_the_counts_are_those_of_json_bodies() -> None:
    assert {name: allowed.count for name, allowed in RANGES.items() if allowed.count} == {
        "stop": MAX_STOPS,
        "stop_token_ids": MAX_STOP_TOKENS,
        "bad_words": MAX_BAD_WORDS,
        "allowed_token_ids": MAX_ALLOWED_TOKENS,
        "logit_bias": MAX_BIASED_TOKENS,
    }
    assert RANGES["max_tokens"].most == MAX_TOKENS_LIMIT
    assert RANGES["stop_token_ids"].most == RANGES["allowed_token_ids"].most == MAX_TOKEN_ID
    assert RANGES["logprobs"].most == MAX_TOP_LOGPROBS
    assert RANGES["prompt_logprobs"].most == MAX_PROMPT_LOGPROBS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": 2.5}, "temperature has a value of 2.5; it may be from 0 to 2"),
        ({"temperature": float("nan")}, "temperature has a value of nan"),
        ({"top_p": -0.1}, "top_p"),
        ({"repetition_penalty": 0.0}, "more than 0 to 10"),
        ({"stop": [""]}, "stop has a text's length of 0"),
        ({"stop": ["a"] * 17}, "stop has 17 entries and may have 16"),
        ({"bad_words": ["a" * 129]}, "bad_words has a text's length of 129"),
        ({"logit_bias": {1: 101.0}}, "logit_bias"),
        ({"logit_bias": {1: float("inf")}}, "logit_bias"),
        ({"allowed_token_ids": [2**31]}, "allowed_token_ids"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": 2**32 - 1}, "max_tokens"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        sampling_of(pb.Sampling(**fields), "options.sampling")
    [name] = fields
    assert caught.value.param == f"options.sampling.{name}"


def test_what_is_absent_stays_open_and_a_zero_is_none() -> None:
    assert sampling_of(pb.Sampling(), "s") == SamplingFields()
    sent = pb.Sampling(temperature=0.0, max_tokens=0, ignore_eos=False, logprobs=0)
    assert sampling_of(sent, "s") == SamplingFields(
        temperature=0.0, max_tokens=0, ignore_eos=False, logprobs=0
    )


def test_every_field_arrives() -> None:
    sent = pb.Sampling(
        max_tokens=5,
        min_tokens=1,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=-1,
        frequency_penalty=1,
        stop=["x", "y"],
        seed=-3,
        ignore_eos=True,
        logit_bias={9: -1.0, 2: 1.0},
        logprobs=2,
        prompt_logprobs=1,
        stop_token_ids=[4],
        include_stop_in_output=True,
        skip_special_tokens=False,
        bad_words=["z"],
        allowed_token_ids=[1, 2],
        thinking_token_budget=7,
    )
    assert len(sent.ListFields()) == len(pb.Sampling.DESCRIPTOR.fields)
    assert sampling_of(sent, "s") == SamplingFields(
        max_tokens=5,
        min_tokens=1,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=-1,
        frequency_penalty=1,
        stop=("x", "y"),
        seed=-3,
        ignore_eos=True,
        logit_bias=((2, 1.0), (9, -1.0)),
        logprobs=2,
        prompt_logprobs=1,
        stop_token_ids=(4,),
        includes_stop=True,
        skips_special_tokens=False,
        bad_words=("z",),
        allowed_token_ids=(1, 2),
        thinking_budget=7,
    )
