"""What the current task works for: its request's id, its trace, what its access line will say."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmserve.observability.timings import RequestTimings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Every log line carries it."""

access_timings: ContextVar[list[RequestTimings] | None] = ContextVar("access_timings", default=None)
"""Made by the middleware for one HTTP request; every generation of it adds its own."""

current_trace: ContextVar[Any] = ContextVar("current_trace", default=None)
"""The caller's trace, as the tracer read it from the headers; `None` without one."""
