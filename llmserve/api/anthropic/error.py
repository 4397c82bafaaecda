"""An error in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`,
and `details` in the inner object."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from llmserve.errors import LLMServeError, PromptTooLong
from llmserve.observability.context import request_id

OWN_CODES: Final = {"thread": "thread_unsupported_request"}
"""The code of an error about a field, where their clients look for one: to an error about `thread`
they answer with the whole conversation."""


def anthropic_error(error: LLMServeError) -> dict[str, Any]:
    """The body. Its `details` have the house's own code, and the field at fault, if there is one.

    A status of 503 is their `overloaded_error`: their clients try again after every 408, 409, 429
    and 5xx alike, and proxies know 503 better than 529.
    """
    details: dict[str, Any] = {"error_code": OWN_CODES.get(error.param or "", error.code)}
    if error.param is not None:
        details["param"] = error.param
    return {
        "type": "error",
        "error": {"type": _type(error), "message": _message(error), "details": details},
        "request_id": request_id.get(),
    }


def _type(error: LLMServeError) -> str:
    match error.status:
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "request_too_large"
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return "overloaded_error"
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "api_error"
    return error.type  # below 500 the names are theirs


def _message(error: LLMServeError) -> str:
    """Agents find a prompt that is too long by their sentence, and shorten it."""
    if isinstance(error, PromptTooLong):
        least = "" if error.is_exact else " or more"
        return (
            f"prompt is too long: {error.prompt_tokens} tokens{least} > "
            f"{error.max_prompt_tokens} maximum"
        )
    return error.message
