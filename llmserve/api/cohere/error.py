"""How Cohere tells an error, and how others do whose rerank routes look the same."""

from __future__ import annotations

from typing import Any

from llmserve.api.error_shape import openai_error
from llmserve.errors import LLMServeError


def cohere_error(error: LLMServeError) -> dict[str, Any]:
    """Cohere's `message`, and OpenAI's object, which vLLM has."""
    return {"message": error.message, **openai_error(error)}
