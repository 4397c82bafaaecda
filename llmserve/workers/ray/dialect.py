"""How the ingress tells an error in the words of the route that was asked. All else is said by the
replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import Scope

from llmserve.api.anthropic.error import anthropic_error
from llmserve.api.error_shape import ErrorShape, openai_error
from llmserve.api.ndjson import NDJSON, line
from llmserve.api.ollama.error import ollama_error
from llmserve.api.sse import data, named
from llmserve.api.tgi.error import tgi_error
from llmserve.errors import LLMServeError

NAMED: Final = ("/v1/messages", "/v1/responses", "/responses", "/generate", "/stream", "/admin")
"""Below these, the events of streams have names."""


def path_of(scope: Scope) -> str:
    """A request's path below the application's `route_prefix`."""
    return str(scope["path"]).removeprefix(scope.get("root_path", "").rstrip("/"))


def shape_of(path: str) -> ErrorShape:
    """The shape of errors at this path."""
    if path.startswith("/v1/messages"):
        return anthropic_error
    if path.startswith("/api/"):
        return ollama_error
    if path in {"/", "/generate_stream"}:
        return tgi_error
    return openai_error


def last_words(path: str, content_type: str) -> Callable[[LLMServeError], bytes] | None:
    """What ends a stream of this kind whose replica has died; `None` for a whole body, which can
    only be cut off."""
    shape = shape_of(path)
    if content_type.startswith(NDJSON):
        return lambda error: line(shape(error))
    if not content_type.startswith("text/event-stream"):
        return None
    if path.startswith(NAMED) and path != "/generate_stream":
        return lambda error: named("error", shape(error))
    return lambda error: data(shape(error))
