"""When a file is to be deleted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmserve.api.fields import Fields


class ExpiresAfter(Fields):
    """So many seconds after the file was made."""

    anchor: Literal["created_at"] = Field(description="From when the seconds count.")
    seconds: int = Field(ge=3600, le=2_592_000, description="One hour to 30 days.")
