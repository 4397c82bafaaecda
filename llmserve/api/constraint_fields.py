"""Fields that say what an answer must look like, by the names of OpenAI, vLLM, SGLang and
llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Self

import orjson
from pydantic import Field, model_validator

from llmserve.api.fields import Fields
from llmserve.api.response_format import ResponseFormat, constraint_of
from llmserve.domain import Constraint, ConstraintKind

MAX_CHOICES: Final = 4096
Schema = dict[str, Any] | str
"""A JSON schema, or its text."""
Source = Annotated[str, Field(min_length=1)]
Texts = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(min_length=1, max_length=MAX_CHOICES, fail_fast=True),
]

KINDS: Final = {
    "json": ConstraintKind.JSON_SCHEMA,
    "json_schema": ConstraintKind.JSON_SCHEMA,
    "guided_json": ConstraintKind.JSON_SCHEMA,
    "json_object": ConstraintKind.JSON_OBJECT,
    "regex": ConstraintKind.REGEX,
    "guided_regex": ConstraintKind.REGEX,
    "choice": ConstraintKind.CHOICE,
    "guided_choice": ConstraintKind.CHOICE,
    "grammar": ConstraintKind.GRAMMAR,
    "ebnf": ConstraintKind.GRAMMAR,
    "guided_grammar": ConstraintKind.GRAMMAR,
}
"""How the value of each field is read."""


class StructuredOutputs(Fields):
    """vLLM's object; exactly one of its fields is set."""

    unsupported: ClassVar = frozenset({"structural_tag", "whitespace_pattern"})

    json_: Schema | None = Field(None, alias="json", description="A JSON schema.")
    json_object: bool | None = Field(None, description="Any JSON object.")
    regex: Source | None = None
    choice: Texts | None = Field(None, description="One of these texts.")
    grammar: Source | None = Field(None, description="Lark, or EBNF as in llama.cpp's GBNF.")

    @model_validator(mode="after")
    def _exactly_one(self) -> StructuredOutputs:
        if len(list(_set_fields(self))) != 1:
            raise ValueError("set exactly one of json, json_object, regex, choice and grammar")
        return self


class ConstraintFields(Fields):
    """At most one of them is set."""

    may_be_empty: ClassVar[frozenset[str]] = frozenset({"response_format", "structured_outputs"})

    response_format: ResponseFormat | None = Field(
        None, description="What the answer must look like: text, any JSON object, or a JSON schema."
    )
    structured_outputs: StructuredOutputs | None = Field(
        None, description="What the answer must look like, as in vLLM."
    )
    guided_json: Schema | None = Field(None, description="The answer is JSON of this schema.")
    guided_regex: Source | None = Field(None, description="The answer matches this expression.")
    guided_choice: Texts | None = Field(None, description="The answer is one of these texts.")
    guided_grammar: Source | None = Field(
        None, description="The answer belongs to this grammar: Lark, or EBNF as in GBNF."
    )
    json_schema: Schema | None = Field(None, description="SGLang's name of `guided_json`.")
    regex: Source | None = Field(None, description="SGLang's name of `guided_regex`.")
    ebnf: Source | None = Field(None, description="SGLang's name of `guided_grammar`.")
    grammar: Source | None = Field(None, description="llama.cpp's name of `guided_grammar`.")

    @model_validator(mode="after")
    def _one_constraint(self) -> Self:
        self.constraint()
        return self

    def constraint(self) -> Constraint | None:
        """What the answer must look like, as the service takes it.

        Raises:
            ValueError: two fields say so.
        """
        found = list(self._constraints())
        if len(found) > 1:
            names = " and ".join(sorted(constraint.param for constraint in found[:2]))
            raise ValueError(f"{names} both say what the answer must look like; send one of them")
        return found[0] if found else None

    def _constraints(self) -> Iterator[Constraint]:
        wanted = constraint_of(self.response_format)
        if wanted is not None:
            yield wanted
        if self.structured_outputs is not None:
            for name, value in _set_fields(self.structured_outputs):
                yield _constraint(name, value, f"structured_outputs.{name}")
        for name in KINDS.keys() & ConstraintFields.model_fields.keys():
            value = getattr(self, name)
            if value is not None:
                yield _constraint(name, value, name)


def _set_fields(sent: StructuredOutputs) -> Iterator[tuple[str, Any]]:
    for field in ("json_", "json_object", "regex", "choice", "grammar"):
        value = getattr(sent, field)
        if value is not None and value is not False:
            yield field.removesuffix("_"), value


def _constraint(name: str, value: Any, param: str) -> Constraint:
    kind = KINDS[name]
    if kind is ConstraintKind.JSON_OBJECT:
        return Constraint(kind, param=param)
    is_text = isinstance(value, str)
    return Constraint(kind, value if is_text else orjson.dumps(value).decode(), param)
