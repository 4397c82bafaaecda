"""Which fields are known, and which of their values ask for nothing."""

from __future__ import annotations

import typing

import openai.types.chat.completion_create_params as chat_params
import openai.types.completion_create_params as completion_params
import pytest

from llmserve.api.native.frames import PromptFrame
from llmserve.api.native.schemas import GenerateBody, StreamQuery
from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.completion_body import CompletionBody
from llmserve.api.openai.no_op import ChatNoOpFields
from llmserve.api.sampling_body import SamplingQuery
from llmserve.api.unsupported import (
    DEFAULTS,
    SERVED_ELSEWHERE,
    UNSUPPORTED_FIELDS,
    asks_for_nothing,
)

BODIES = (ChatBody, CompletionBody, GenerateBody, StreamQuery, PromptFrame)
LABELS = {"id", "type"}
INDIFFERENT = {"moderation", "prompt_cache_options"}
"""Of OpenAI's fields: those that change nothing in an answer, and are told."""


def test_a_field_of_one_route_is_known_on_all() -> None:
    served = [set(body.model_fields) for body in BODIES]
    somewhere = set.union(*served) - set.intersection(*served)
    assert somewhere - LABELS - set(ChatNoOpFields.model_fields) == SERVED_ELSEWHERE
    for body in BODIES:
        assert body.unsupported == SamplingQuery.unsupported
        assert body.served_elsewhere == SERVED_ELSEWHERE


def test_every_field_of_openai_is_served_refused_or_indifferent() -> None:
    for params, body in ((chat_params, ChatBody), (completion_params, CompletionBody)):
        fields = set(typing.get_type_hints(params.CompletionCreateParamsBase))
        assert fields - set(body.model_fields) - UNSUPPORTED_FIELDS <= INDIFFERENT
    assert not INDIFFERENT & UNSUPPORTED_FIELDS
    assert {"max_new_tokens", "n_predict"} <= UNSUPPORTED_FIELDS, "others' words for max_tokens"
    assert not UNSUPPORTED_FIELDS & set().union(*(body.model_fields for body in BODIES))


@pytest.mark.parametrize(
    ("value", "is_nothing"),
    [
        (None, True),
        (False, True),
        ("", True),
        ([], True),
        ({}, True),
        ({"a": None, "b": {"c": None}}, True),
        (0, False),
        (0.0, False),
        (True, False),
        ([None], False),
        ({"a": False}, False),
        ({"a": ""}, False),
        ("none", False),
    ],
)
def test_what_absence_looks_like(value: object, is_nothing: bool) -> None:
    assert asks_for_nothing("whatever", value, {}) is is_nothing


def test_a_default_is_compared_with_its_kind() -> None:
    assert asks_for_nothing("best_of", 1, DEFAULTS)
    assert not asks_for_nothing("best_of", True, DEFAULTS)
    assert not asks_for_nothing("best_of", 1.5, DEFAULTS)
    assert asks_for_nothing("reasoning_effort", "medium", DEFAULTS)
    assert not asks_for_nothing("reasoning_effort", "high", DEFAULTS)


def test_false_is_no_absence_where_the_default_is_true() -> None:
    assert not asks_for_nothing("spaces_between_special_tokens", False, DEFAULTS)
    assert asks_for_nothing("spaces_between_special_tokens", True, DEFAULTS)
    assert asks_for_nothing("parallel_tool_calls", False, DEFAULTS)
