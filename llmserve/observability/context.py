"""The request that the current task works for: its id, its trace, the data for its access line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from llmserve.observability.timings import RequestTimings

MAX_REQUEST_ID: Final = 128
USABLE_REQUEST_ID: Final = re.compile(rf"[A-Za-z0-9._:/+=-]{{1,{MAX_REQUEST_ID}}}")
"""What a client may call its request."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Added to every log line."""

access_timings: ContextVar[list[RequestTimings] | None] = ContextVar("access_timings", default=None)
"""Set by the middleware for each HTTP request; each of its generations adds its own timings."""

current_trace: ContextVar[Any] = ContextVar("current_trace", default=None)
"""The caller's trace context, read from the headers by the tracer; `None` without one."""

TRACE: Final = ("traceparent", "tracestate")

trace_headers: ContextVar[Mapping[str, str] | None] = ContextVar("trace_headers", default=None)
"""The headers of the caller's trace, as other servers are told of it."""
