"""How TGI tells an error: its message, and a word for its kind."""

from __future__ import annotations

from typing import Any

from llmserve.errors import LLMServeError, NotReady, RequestError, TooMany, WaitTimeout


def tgi_error(error: LLMServeError) -> dict[str, Any]:
    """`{"error", "error_type"}`, as a body and as a stream's last event."""
    return {"error": error.message, "error_type": _type(error)}


def _type(error: LLMServeError) -> str:
    match error:
        case TooMany() | NotReady() | WaitTimeout():
            return "overloaded"
        case RequestError():
            return "validation"
    return "generation"
