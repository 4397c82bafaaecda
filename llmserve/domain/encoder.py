"""Models that encode: what an operator says of one, and what is known of one that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmserve.domain.encoding import EncodingPurpose

CAPABILITIES: Final = {
    EncodingPurpose.EMBEDDING: ("embeddings",),
    EncodingPurpose.SCORE: ("rerank", "score"),
    EncodingPurpose.CLASSIFICATION: ("classification",),
}


@dataclass(frozen=True, slots=True)
class EncodingSpec:
    """What `[encoding]` of a model.toml says; `None` is as the model's own files have it.

    Attributes:
        pooling: how the tokens' vectors become one; several are put one after another.
        is_normalized: whether embeddings have length 1.
        prompts: names and texts, which are put before texts when a request names them.
        default_prompt: the name of the one for requests that name none.
    """

    pooling: tuple[str, ...] | None = None
    is_normalized: bool | None = None
    prompts: tuple[tuple[str, str], ...] | None = None
    default_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class EncodingInfo:
    """What a loaded model encodes for.

    Attributes:
        dimensions: of an embedding; `None` where it makes none.
        prompts: names of the prompts that requests may ask for.
        labels: of the classes; empty where it does not classify.
        is_normalized: whether embeddings have length 1 unless a request says otherwise.
    """

    purposes: tuple[EncodingPurpose, ...]
    dimensions: int | None = None
    prompts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    is_normalized: bool = False

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What requests may ask of it."""
        return tuple(name for purpose in self.purposes for name in CAPABILITIES[purpose])
