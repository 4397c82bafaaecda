"""How an error looks in a body. Each router chooses a shape (`keyed_route`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.types import Scope

from llmserve.errors import LLMServeError

ErrorShape = Callable[[LLMServeError], dict[str, Any]]
"""The body that tells a client of an error."""

IN_SCOPE: Final = "llmserve.error_shape"


def openai_error(error: LLMServeError) -> dict[str, Any]:
    """OpenAI's shape, `{"error": {"message", "type", "param", "code"}}`, which others share."""
    return {"error": error.details()}


def set_error_shape(scope: Scope, shape: ErrorShape) -> None:
    """From now on errors about this request have this shape."""
    scope[IN_SCOPE] = shape


def error_shape_of(scope: Scope) -> ErrorShape:
    """The shape for errors about this request; OpenAI's where no router has chosen."""
    shape: ErrorShape = scope.get(IN_SCOPE, openai_error)
    return shape
