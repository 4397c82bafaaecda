"""Who waits for how long, and what one request may ask for."""

from __future__ import annotations

from pydantic import BaseModel, Field

from llmserve.settings.kinds import Seconds


class AdmissionSettings(BaseModel):
    """Who waits for how long, and what one request may ask for."""

    max_waiting: int = Field(
        256, ge=0, le=100_000, description="Requests that wait for a slot; more get a 429."
    )
    wait_timeout_seconds: Seconds = Field(
        60.0, gt=0, description="How long a request may wait for a slot."
    )
    request_timeout_seconds: Seconds = Field(
        600.0, gt=0, description="Default and upper bound of a request's own timeout."
    )
    max_background_running: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Background requests that run or are paused at once. Not set: as many as "
        "others with the batching engine, half as many with the threaded one.",
    )
    max_background_waiting: int = Field(
        1024, ge=0, le=100_000, description="Background requests that wait; more get a 429."
    )
    background_timeout_seconds: Seconds = Field(
        86_400.0, gt=0, description="Default and upper bound of a background request's timeout."
    )
    max_prompts_per_request: int = Field(
        64, ge=1, le=4096, description="Prompts × n of one HTTP request."
    )
    websocket_max_prompts: int = Field(
        16, ge=1, le=4096, description="Prompts at once on one WebSocket."
    )
    strict_fields: bool = Field(
        False,
        description="Refuse unknown fields. Not set: they are ignored, and reported in "
        "`X-Ignored-Fields`, the log and the metrics.",
    )
