"""Where kernels find what adapters add to a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

NO_SLOT: Final = -1
"""Of rows without an adapter."""


@dataclass(frozen=True, slots=True)
class LowRankTable:
    """One layer's matrices by slot: addresses (num_slots,) int64, ranks (num_slots,) int32, 0 where
    there is nothing to add. `down` is (rank, in_features), `up` (out_features, rank)."""

    downs: torch.Tensor
    ups: torch.Tensor
    ranks: torch.Tensor

    @classmethod
    def empty(cls, num_slots: int, device: torch.device) -> LowRankTable:
        """Nothing is added in any slot."""
        return cls(
            torch.zeros(num_slots, dtype=torch.int64, device=device),
            torch.zeros(num_slots, dtype=torch.int64, device=device),
            torch.zeros(num_slots, dtype=torch.int32, device=device),
        )
