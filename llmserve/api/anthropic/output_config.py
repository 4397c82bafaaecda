"""What an answer must look like, and how hard a model tries."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import Field

from llmserve.api.anthropic.fields import AnthropicFields
from llmserve.domain import Constraint, ConstraintKind


class OutputFormat(AnthropicFields):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")

    def constraint(self, place: str) -> Constraint:
        """As the service takes it; `place` is where the client put it."""
        source = orjson.dumps(self.schema_).decode()
        return Constraint(ConstraintKind.JSON_SCHEMA, source, param=f"{place}.schema")


class OutputConfig(AnthropicFields):
    """Both are optional."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="Handed to the chat template, as `reasoning_effort`."
    )
    format: OutputFormat | None = Field(None, description="What the answer must look like.")
