"""`llmserve fields`: which of clients' fields this server serves."""

from __future__ import annotations

from llmserve.api.openai.reference import table


def fields() -> None:
    """Print every field of OpenAI's and vLLM's routes and what becomes of it, as Markdown."""
    print(table())
