"""How Ollama tells an error: its message."""

from __future__ import annotations

from typing import Any

from llmserve.errors import LLMServeError


def ollama_error(error: LLMServeError) -> dict[str, Any]:
    """`{"error": "…"}`, as a body and as a stream's last line."""
    return {"error": error.message}
