"""What texts are for, in the words of several vendors."""

from __future__ import annotations

from typing import Final, Literal

InputType = Literal[
    "query",
    "document",
    "passage",
    "search_query",
    "search_document",
    "classification",
    "clustering",
]
"""Of Cohere, Voyage and NVIDIA."""

PROMPTS: Final[dict[InputType, str]] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "classification": "classification",
    "clustering": "clustering",
}
"""The names that sentence-transformers' models have for their prompts."""
