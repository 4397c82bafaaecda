"""Fields of OpenAI's APIs that change nothing here, and why that is what they mean."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field
from pydantic.config import JsonDict

from llmserve.api.fields import Fields

MARK: Final[JsonDict] = {"x-no-op": True}
"""In the OpenAPI description of a field: the server takes it and does nothing with it."""

MetadataText = Annotated[str, Field(max_length=512)]


class HintFields(Fields):
    """Each is checked as OpenAI's reference says, and has no effect on the answer."""

    user: str | None = Field(
        None,
        description="The client's name for its user; callers are told apart by their keys.",
        json_schema_extra=MARK,
    )
    safety_identifier: str | None = Field(
        None, description="Like `user`, for OpenAI's policies.", json_schema_extra=MARK
    )
    prompt_cache_key: str | None = Field(
        None,
        description="A hint where a cached prefix may be; it is found without one.",
        json_schema_extra=MARK,
    )
    prompt_cache_retention: Literal["in-memory", "in_memory", "24h"] | None = Field(
        None, description="A hint how long prefixes are kept.", json_schema_extra=MARK
    )
    prompt_cache_options: dict[str, Any] | None = Field(
        None, description="Hints how prefixes are kept.", json_schema_extra=MARK
    )
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = Field(
        None,
        description="There is one tier, and the answer says `default`.",
        json_schema_extra=MARK,
    )
