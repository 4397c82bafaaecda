"""What a connection may send, and how long it may take."""

from __future__ import annotations

from pydantic import BaseModel, Field

from llmserve.settings.kinds import Seconds


class BoundsSettings(BaseModel):
    """What a connection may send, and how long it may take."""

    max_header_bytes: int = Field(
        32 * 2**10, ge=1024, description="Request line and headers together; more is 431."
    )
    header_timeout_seconds: Seconds = Field(
        15.0, gt=0, description="How long a client may take to send its headers."
    )
    max_body_bytes: int = Field(
        4 * 2**20, ge=1024, description="Largest request body and WebSocket frame."
    )
    body_timeout_seconds: Seconds = Field(
        30.0, gt=0, description="How long a client may take to send its body."
    )
    max_json_depth: int = Field(
        64, ge=4, le=1000, description="Nesting of a JSON body or WebSocket frame."
    )
    send_timeout_seconds: Seconds = Field(
        120.0, gt=0, description="A client that reads nothing of a stream for so long is cut off."
    )
    idle_connection_seconds: int = Field(
        75, ge=1, description="A connection without a request for so long is closed."
    )
