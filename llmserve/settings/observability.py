"""What operators are told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from llmserve.settings.kinds import Seconds


class ObservabilitySettings(BaseModel):
    """What operators are told."""

    log_format: Literal["human", "json"] = Field(
        "human", description="Log lines for people, or JSON for machines."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The lowest level that is logged."
    )
    metrics_compat: Literal["none", "vllm"] = Field(
        "none", description="`vllm`: `/metrics` has every series under vLLM's names as well."
    )
    slow_request_seconds: Seconds | None = Field(
        60.0, gt=0, description="A request that takes longer gets a warning with its timings."
    )
    accounting_log: Path | None = Field(
        None, description="A JSON line per request: who used how many tokens of which model."
    )
    accounting_max_bytes: int = Field(
        100 * 2**20, ge=4096, description="The accounting log is rotated at this size."
    )
    accounting_keep: int = Field(
        10, ge=1, le=1000, description="Rotated accounting logs that are kept."
    )
    otlp_endpoint: str | None = Field(
        None,
        description="OpenTelemetry collector (OTLP over HTTP), as in `http://host:4318`; needs "
        "the extra `tracing`.",
    )
