"""`llmserve fields`: which of clients' fields this server serves."""

from __future__ import annotations


def fields() -> None:
    """List every field of OpenAI's and vLLM's references, and what becomes of it here."""
    from llmserve.api.openai.reference import table

    print(table())
