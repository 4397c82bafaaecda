"""What the grammar lets through validates, by another implementation of JSON Schema."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from engines.constraints.schemas import REFUSED, served
from engines.constraints.small import answer, of_schema, small_vocabulary

from llmserve.engines.constraints.compilation import compile_constraint
from llmserve.errors import InvalidRequest

ANSWERS = 4
SERVED = list(served())


def test_there_are_hundreds_of_schemas() -> None:
    assert len({json.dumps(schema) for schema in SERVED}) + len(REFUSED) >= 300


@pytest.mark.parametrize("part", range(8))
def test_every_finished_answer_validates(part: int) -> None:
    numbers = random.Random(part)
    finished = 0
    for schema in SERVED[part::8]:
        checker = jsonschema.validators.validator_for(
            schema, default=jsonschema.Draft202012Validator
        )
        compiled = compile_constraint(of_schema(schema), small_vocabulary())
        for _ in range(ANSWERS):
            text = answer(compiled.new_rule(), numbers)
            if text is None:
                continue
            finished += 1
            value = json.loads(text)
            problems = [error.message for error in checker(schema).iter_errors(value)]
            assert not problems, (schema, text, problems)
            assert text == text.strip()
    assert finished > 0.8 * ANSWERS * len(SERVED[part::8])


@pytest.mark.parametrize(("schema", "pointer"), REFUSED)
def test_every_refusal_names_a_pointer_and_the_field(schema: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        compile_constraint(of_schema(schema), small_vocabulary())
    assert refused.value.message.startswith(f"{pointer}: ")
    assert refused.value.param == "response_format"
