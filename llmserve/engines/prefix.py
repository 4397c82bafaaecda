"""What prompts begin with: the tokens that a prefix has in common with all that continue it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from llmserve.domain import Conversation, Message, Prompt
from llmserve.text.tokenizer import Tokenizer

ENDINGS: Final = (" a", "\n", "the", "And", "It", "9", "Z", ".")
"""Continuations that merge with a prefix's last characters in different ways, if at all."""


def beginning(prefix: Prompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that every prompt which begins with a prefix begins with: what comes next may
    merge with the last one, or be the template's."""
    if isinstance(prefix, str):
        continued: list[Prompt] = [prefix + ending for ending in ENDINGS]
    elif isinstance(prefix, Conversation):
        continued = [
            replace(prefix, messages=(*prefix.messages, Message("user", ending)))
            for ending in ENDINGS
        ]
    else:
        continued = [prefix]
    return common_beginning([tokenizer.encode(prompt) for prompt in continued])


def common_beginning(encoded: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that several prompts begin with."""
    shared = 0
    for column in zip(*encoded, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return tuple(encoded[0][:shared])


def why_unkept(num_tokens: int, least: int, max_context: int) -> str | None:
    """Why a prefix of so many tokens cannot be kept, of which so many are worth it; `None` if it
    can."""
    if num_tokens < least:
        return (
            f"it has {num_tokens} tokens that every prompt with it begins with, and it takes "
            f"{least} to keep any; lengthen it"
        )
    if num_tokens >= max_context:
        return f"it has {num_tokens:,} tokens and the context is {max_context:,}; shorten it"
    return None
