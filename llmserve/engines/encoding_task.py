"""A request to encode that was checked: its inputs are tokens, and every parameter is decided."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from llmserve.domain import EncodingPurpose


@dataclass(frozen=True, slots=True, eq=False)
class TokenInput:
    """What a model reads at once.

    Attributes:
        ids: at least one token; of type `i`.
        type_ids: which of two texts each token is from, where the model wants to know.
        num_unpooled: tokens at its beginning, of a prompt, that the embedding leaves out.
    """

    ids: array[int]
    type_ids: array[int] | None = None
    num_unpooled: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodingTask:
    """What an encoder is given. It does not change any more.

    Attributes:
        inputs: what is computed.
        compared: for each answer the indices of two inputs, where answers are how similar their
            embeddings are; otherwise there is one answer for each input.
        tokens: of each answer; of an input that several compare, only the first has them.
        dimensions: how many of an embedding's numbers are kept; `None` is all.
        is_normalized: whether embeddings have length 1.
        deadline: clock reading at which nobody waits any more.
        caller: whose it is, and `priority`, the caller's share where callers compete.
        is_background: whether it gives way to what is not.
    """

    request_id: str
    purpose: EncodingPurpose
    inputs: tuple[TokenInput, ...]
    tokens: tuple[int, ...]
    compared: tuple[tuple[int, int], ...] = ()
    dimensions: int | None = None
    is_normalized: bool = False
    deadline: float | None = None
    caller: str = ""
    priority: int = 1
    is_background: bool = False

    @property
    def prompt_tokens(self) -> int:
        """All that are computed."""
        return sum(self.tokens)
