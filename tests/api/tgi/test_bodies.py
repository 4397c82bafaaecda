"""What TGI's clients may send, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.tgi.body import RootBody, StreamBody
from llmserve.api.validation import invalid_request
from llmserve.domain import ConstraintKind, GenerationRequest


def request(kind: type[StreamBody] = RootBody, **parameters: Any) -> GenerationRequest:
    [made] = kind.model_validate({"inputs": "hey", "parameters": parameters}).requests("r1", 7.0)
    return made


def complaint(kind: type[StreamBody] = RootBody, **parameters: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"inputs": "hey", "parameters": parameters})
    return invalid_request(caught.value.errors()).message


@pytest.mark.parametrize(
    ("field", "value", "default"),
    [("typical_p", 0.9, 1.0), ("best_of", 2, 1), ("watermark", True, False),
     ("adapter_id", "mine", None)],
)  # fmt: skip
def test_what_would_change_the_answer_is_refused_by_name(
    field: str, value: Any, default: Any
) -> None:
    assert complaint(**{field: value}).startswith(f"'parameters.{field}' is not supported")
    assert request(**{field: default}) == request()


def test_it_is_greedy_unless_something_speaks_of_sampling() -> None:
    assert request().sampling.temperature == 0
    assert request(seed=3, repetition_penalty=1.2).sampling.temperature == 0
    assert request(do_sample=True).sampling.temperature == 1
    assert request(top_p=0.9).sampling.temperature == 1
    assert request(temperature=0.5).sampling.temperature == 0.5
    assert complaint(temperature=0).startswith("parameters.temperature")


def test_parameters_are_the_sampling() -> None:
    made = request(
        max_new_tokens=3, top_k=4, top_p=0.8, repetition_penalty=1.1, frequency_penalty=0.5, seed=7,
        stop=["a"], truncate=5,
    )  # fmt: skip
    sampling = made.sampling
    assert (sampling.max_tokens, sampling.top_k, sampling.top_p) == (3, 4, 0.8)
    assert (sampling.repetition_penalty, sampling.frequency_penalty) == (1.1, 0.5)
    assert (sampling.seed, sampling.stop, sampling.includes_stop) == (7, ("a",), True)
    assert (made.max_prompt_tokens, made.defaults.max_tokens, made.prompt) == (5, 100, "hey")


def test_log_probabilities_are_made_where_tokens_are_told() -> None:
    assert request().sampling.logprobs is None
    assert request(StreamBody).sampling.logprobs == 0
    assert request(details=True, top_n_tokens=2).sampling.logprobs == 2
    sampling = request(details=True, decoder_input_details=True).sampling
    assert (sampling.logprobs, sampling.prompt_logprobs) == (0, 0)


def test_the_prompts_tokens_are_told_with_details_and_not_in_a_stream() -> None:
    assert "with `details`" in complaint(decoder_input_details=True)
    told = complaint(StreamBody, decoder_input_details=True, details=True)
    assert "without a stream" in told


SCHEMA = {"type": "integer"}


@pytest.mark.parametrize(
    ("grammar", "kind", "source"),
    [
        ({"type": "json", "value": SCHEMA}, ConstraintKind.JSON_SCHEMA, SCHEMA),
        ({"type": "json", "value": json.dumps(SCHEMA)}, ConstraintKind.JSON_SCHEMA, SCHEMA),
        (
            {"type": "json_schema", "value": {"name": "n", "schema": SCHEMA}},
            ConstraintKind.JSON_SCHEMA,
            SCHEMA,
        ),
        ({"type": "regex", "value": "[1-9]"}, ConstraintKind.REGEX, None),
    ],
)
def test_a_grammar_is_a_constraint(grammar: Any, kind: ConstraintKind, source: Any) -> None:
    constraint = request(grammar=grammar).constraint
    assert constraint is not None
    assert (constraint.kind, constraint.param) == (kind, "parameters.grammar")
    assert constraint.source == "[1-9]" if source is None else json.loads(constraint.source)


def test_a_grammar_of_another_kind_is_refused() -> None:
    assert complaint(grammar={"type": "ebnf", "value": "x"}).startswith("parameters.grammar")
    assert request(grammar={}).constraint is None


def test_what_nobody_knows_is_told_as_ignored() -> None:
    body = RootBody.model_validate({"inputs": "x", "parameters": {"own": 1}, "more": 2})
    assert list(body.unknown(9)) == [((), "more"), (("parameters",), "own")]
