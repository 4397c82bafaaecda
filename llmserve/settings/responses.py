"""What is kept of the answers of /v1/responses."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from llmserve.settings.kinds import Seconds


class ResponsesSettings(BaseModel):
    """What is kept of the answers of `/v1/responses`."""

    responses_store: Path | None = Field(
        None,
        description="SQLite file that keeps responses for `previous_response_id`, `background` and "
        "`GET /v1/responses/{id}`; all workers share it. Not set: nothing is kept.",
    )
    responses_store_max: int = Field(
        10_000, ge=1, description="Responses that are kept; more push out the oldest ones."
    )
    responses_store_max_bytes: int = Field(
        2**30, ge=1024, description="Bytes of kept responses together; the same."
    )
    responses_store_seconds: Seconds = Field(
        30 * 86_400.0, gt=0, description="How long a response is kept after it was last used."
    )
