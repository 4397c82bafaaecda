"""The request that the current task works for: its id, its trace, the data for its access line."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmserve.observability.timings import RequestTimings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Added to every log line."""

access_timings: ContextVar[list[RequestTimings] | None] = ContextVar("access_timings", default=None)
"""Set by the middleware for each HTTP request; each of its generations adds its own timings."""

current_trace: ContextVar[Any] = ContextVar("current_trace", default=None)
"""The caller's trace context, read from the headers by the tracer; `None` without one."""

trace_headers: ContextVar[Mapping[str, str] | None] = ContextVar("trace_headers", default=None)
"""The headers of the caller's trace, as other servers are told of it."""
