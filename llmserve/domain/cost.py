"""What tokens cost where callers compete: decoding one takes longer than reading one."""

from __future__ import annotations

from typing import Final

PREFILL_COST: Final = 1.0
DECODE_COST: Final = 2.0


def token_cost(prefilled: float, decoded: float) -> float:
    """Of prompt tokens that are computed and answer tokens that are generated."""
    return PREFILL_COST * prefilled + DECODE_COST * decoded
