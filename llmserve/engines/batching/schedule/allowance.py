"""How much background work a step may take beside other sequences."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Allowance:
    """Attributes:
    rows: background sequences that get their next token.
    tokens: prompt tokens of background sequences.
    """

    rows: int
    tokens: int


NOTHING: Final = Allowance(0, 0)
EVERYTHING: Final = Allowance(sys.maxsize, sys.maxsize)
