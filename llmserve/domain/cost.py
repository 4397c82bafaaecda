"""What tokens cost in fair queueing: decoding one takes longer than prefilling one."""

from __future__ import annotations

from typing import Final

PREFILL_COST: Final = 1.0
DECODE_COST: Final = 2.0


def token_cost(prefilled: float, decoded: float) -> float:
    """The cost of so many prefilled and so many decoded tokens."""
    return PREFILL_COST * prefilled + DECODE_COST * decoded
