"""OpenAI's `response_format`: what an answer must look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import Discriminator, Field, Tag

from llmserve.api.fields import Fields
from llmserve.domain import Constraint, ConstraintKind


class PlainText(Fields):
    """Whatever the model says."""

    type: Literal["text"]


class JSONObject(Fields):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Fields):
    """A JSON schema, whose name and description are the client's own."""

    name: str = Field(max_length=256)
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(
        None, description="The answer keeps to the schema, whether this is true or not."
    )


class JSONSchema(Fields):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


def _kind(sent: Any) -> str:
    kind = sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", None)
    return {"json_schema": "[schema]", "json_object": "[object]"}.get(str(kind), "[text]")


ResponseFormat = Annotated[
    Annotated[PlainText, Tag("[text]")]
    | Annotated[JSONObject, Tag("[object]")]
    | Annotated[JSONSchema, Tag("[schema]")],
    Discriminator(_kind),
]


def constraint_of(wanted: PlainText | JSONObject | JSONSchema | None) -> Constraint | None:
    """As the service takes it; a schema that is absent allows any object."""
    match wanted:
        case JSONSchema(json_schema=NamedSchema(schema_=dict() as schema)):
            return Constraint(
                ConstraintKind.JSON_SCHEMA,
                orjson.dumps(schema).decode(),
                param="response_format.json_schema.schema",
            )
        case JSONObject() | JSONSchema():
            return Constraint(ConstraintKind.JSON_OBJECT)
    return None
