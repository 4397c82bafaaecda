"""How text-embeddings-inference tells an error: its message, and a word for its kind."""

from __future__ import annotations

from typing import Any

from llmserve.errors import LLMServeError, NotReady, RequestError, TooMany, WaitTimeout


def tei_error(error: LLMServeError) -> dict[str, Any]:
    """`{"error", "error_type"}`."""
    return {"error": error.message, "error_type": _type(error)}


def _type(error: LLMServeError) -> str:
    match error:
        case TooMany() | WaitTimeout():
            return "Overloaded"
        case NotReady():
            return "Unhealthy"
        case RequestError():
            return "Validation"
    return "Backend"
