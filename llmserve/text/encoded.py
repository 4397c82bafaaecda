"""A prompt as tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, and what a reader of the answer must know of the prompt.

    Attributes:
        ids: the prompt's tokens.
        opening: what a chat template wrote after the last character of a caller's: the end of the
            last turn and the beginning of the answer's, often with an opened `<think>`. If the
            answer goes on in the last message, from before its turn on. Empty for texts and ids.
    """

    ids: list[int]
    opening: str = ""
