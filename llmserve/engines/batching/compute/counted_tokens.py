"""What stands for a cache in models that ask it how many tokens came before a step's."""

from __future__ import annotations

from typing import Any

import torch


def counts_tokens(config: Any) -> bool:
    """Whether the model's layers count tokens by their cache, not by the positions they are given
    (Llama 4, to scale queries by how far on they are)."""
    return bool(getattr(config.get_text_config(decoder=True), "attn_temperature_tuning", False))


class CountedTokens:
    """For one step: stores nothing, and tells of each of its tokens how many are missing before it,
    so that what the model adds to the token's place in the step is its position."""

    def __init__(self, positions: torch.Tensor) -> None:  # (num_tokens,)
        self._missing = positions - torch.arange(len(positions), device=positions.device)

    def get_seq_length(self, layer: int = 0) -> torch.Tensor:
        """(num_tokens,)."""
        return self._missing

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same again: attention finds earlier ones in the paged cache."""
        return keys, values
