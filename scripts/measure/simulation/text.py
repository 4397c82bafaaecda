"""Texts without words: all that is known of them is which ones begin alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_TOKENS: Final = 2**24
"""Of one source: the ids of different sources' tokens differ."""


@dataclass(frozen=True, slots=True)
class Span:
    """The first tokens of a source: a system prompt, a conversation or a single message."""

    source: int
    tokens: int


Text = tuple[Span, ...]


def length(text: Text) -> int:
    """In tokens."""
    return sum(span.tokens for span in text)


def extended(text: Text, tokens: int) -> Text:
    """The text and what its last source says next."""
    last = text[-1]
    return (*text[:-1], Span(last.source, last.tokens + tokens))


def beginning(text: Text, tokens: int) -> Text:
    """Its first tokens."""
    spans, left = [], tokens
    for span in text:
        if left > 0:
            spans.append(Span(span.source, min(span.tokens, left)))
        left -= span.tokens
    return tuple(spans)


def token_ids(text: Text, grain: int) -> list[int]:
    """Every `grain`-th token of a text."""
    ids: list[int] = []
    position = 0
    for span in text:
        base = span.source * MOST_TOKENS
        ids.extend(range(base + -position % grain, base + span.tokens, grain))
        position += span.tokens
    return ids
