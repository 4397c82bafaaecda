"""`text`: what the text of an answer must look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import Discriminator, Field, Tag

from llmserve.api.fields import Fields
from llmserve.api.response_format import JSONObject, PlainText
from llmserve.domain import Constraint, ConstraintKind

PARAM = "text.format"


class JSONSchemaFormat(Fields):
    """JSON that matches a schema, whose name and description are the client's own."""

    type: Literal["json_schema"]
    name: str = Field(max_length=256)
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = Field(
        None, description="The answer keeps to the schema, whether this is true or not."
    )


def _kind(sent: Any) -> str:
    kind = sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", None)
    return {"json_schema": "[schema]", "json_object": "[object]"}.get(str(kind), "[text]")


class TextConfig(Fields):
    """The form of the text, and how long it is to be."""

    format: (
        Annotated[
            Annotated[PlainText, Tag("[text]")]
            | Annotated[JSONObject, Tag("[object]")]
            | Annotated[JSONSchemaFormat, Tag("[schema]")],
            Discriminator(_kind),
        ]
        | None
    ) = None
    verbosity: Literal["low", "medium", "high"] | None = Field(
        None, description="Handed to the chat template."
    )

    def constraint(self) -> Constraint | None:
        """As the service takes it."""
        match self.format:
            case JSONSchemaFormat(schema_=schema):
                source = orjson.dumps(schema).decode()
                return Constraint(ConstraintKind.JSON_SCHEMA, source, f"{PARAM}.schema")
            case JSONObject():
                return Constraint(ConstraintKind.JSON_OBJECT, param=PARAM)
        return None

    def told(self) -> dict[str, Any]:
        """As responses repeat it."""
        wanted = {"type": "text"}
        if self.format is not None:
            wanted = self.format.model_dump(by_alias=True, exclude_none=True)
        return {"format": wanted, "verbosity": self.verbosity}
