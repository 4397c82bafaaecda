"""What schemathesis checks beside what it knows itself: an error has the shape of its dialect.
(Loaded by schemathesis, by name.)"""

from __future__ import annotations

from typing import Any, Final

import schemathesis

TGI: Final = frozenset({"/", "/generate_stream", "/info", "/embed", "/predict", "/similarity"})
"""And TEI, whose errors look alike."""
COHERE: Final = frozenset({"/rerank", "/v1/rerank", "/v2/rerank", "/v1/embed", "/v2/embed"})
OPENAI: Final = frozenset({"message", "type", "param", "code"})
KNOWN: Final = frozenset({"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
"""Methods with a body in the answer. One that is made up belongs to no dialect."""

LEAST_ERROR: Final = 400
LEAST_SERVER_ERROR: Final = 500


def keys(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def shape_of(path: str, body: Any) -> str | None:
    """What is wrong with an error's body on this path; `None` if nothing is."""
    error = body.get("error") if isinstance(body, dict) else None
    if path.startswith("/v1/messages"):
        is_right = keys(body) == {"type", "error", "request_id"} and body["type"] == "error"
        is_right = is_right and {"type", "message"} <= keys(error)
    elif path.startswith("/api/"):
        is_right = keys(body) == {"error"} and isinstance(error, str)
    elif path in TGI or (path == "/rerank" and isinstance(error, str)):
        is_right = keys(body) == {"error", "error_type"} and isinstance(error, str)
    elif path in COHERE:
        is_right = keys(body) == {"error", "message"} and keys(error) == OPENAI
    else:
        is_right = keys(body) == {"error"} and keys(error) == OPENAI
    return None if is_right else f"an error on {path} looks like {body}"


@schemathesis.check
def error_shape(ctx: Any, response: Any, case: Any) -> None:
    """Whatever is refused is refused in the dialect of its path."""
    if response.status_code < LEAST_ERROR or case.method.upper() not in KNOWN:
        return
    fault = shape_of(case.operation.path, response.json())
    assert fault is None, fault


@schemathesis.check
def no_server_error_but_late(ctx: Any, response: Any, case: Any) -> None:
    """For numbers there is no part of an answer: a `timeout` of nothing is a 503."""
    if response.status_code >= LEAST_SERVER_ERROR:
        assert response.json()["error"]["code"] == "wait_timeout", response.text
