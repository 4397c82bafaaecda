"""A request for numbers instead of text: embeddings, scores of relevance, classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EncodingPurpose(StrEnum):
    """What is asked of a model that encodes."""

    EMBEDDING = "embedding"
    SCORE = "score"
    CLASSIFICATION = "classification"


class Truncation(StrEnum):
    """What becomes of an input that is too long."""

    REFUSE = "refuse"
    KEEP_START = "keep_start"
    KEEP_END = "keep_end"


@dataclass(frozen=True, slots=True)
class TextPair:
    """A query and a document, which a cross-encoder reads together."""

    query: str
    document: str


EncodingInput = str | tuple[int, ...] | TextPair
"""A text, the ids of its tokens, or a pair."""


@dataclass(frozen=True, slots=True)
class EncodingRequest:
    """Inputs to encode with one model, whatever transport brought them.

    Attributes:
        id: the request id in logs and response bodies.
        inputs: at least one; for `SCORE` all of them are pairs.
        model: a served name or alias; `None` is the default model for this purpose.
        prompt_name: which of the model's prompts is put before each text; `None` is its default.
        may_lack_prompt: whether a model that has no such prompt takes the texts as they are.
        dimensions: how many of an embedding's numbers are kept (Matryoshka); `None` keeps all.
        is_normalized: whether embeddings have length 1; `None` is as the model was made.
        max_tokens: of an input, special tokens included; `None` is the model's own bound.
        timeout_seconds: from now until the answer must be there, waiting included.
    """

    id: str
    inputs: tuple[EncodingInput, ...]
    purpose: EncodingPurpose
    model: str | None = None
    prompt_name: str | None = None
    may_lack_prompt: bool = False
    dimensions: int | None = None
    is_normalized: bool | None = None
    truncation: Truncation = Truncation.REFUSE
    max_tokens: int | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class EncodingAnswer:
    """What a model made of the inputs, in their order.

    Attributes:
        model: its name.
        vectors: of each input, float32 in native byte order: an embedding, one score, or the logits
            of the classes.
        tokens: how many each input had, as they were computed.
        labels: of the classes; empty for other purposes.
        takes_several: whether an input may be of several classes at once, so that each logit is
            for itself.
        queue_seconds: from the request's arrival until it was its turn, loading included.
    """

    model: str
    vectors: tuple[memoryview, ...]
    tokens: tuple[int, ...]
    labels: tuple[str, ...] = ()
    takes_several: bool = False
    queue_seconds: float = 0.0

    @property
    def num_numbers(self) -> int:
        """Of all vectors together."""
        return sum(len(vector) for vector in self.vectors)
