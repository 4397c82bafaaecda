"""The least common multiple of decimal numbers, which has as many remainders as it has digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def common_multiple(divisors: Sequence[float]) -> int:
    """Its digits as an integer, with as many decimals as the divisors need; 1 of none."""
    exact = [Fraction(str(divisor)) for divisor in divisors]
    scale = 1
    while any((scale * each).denominator > 1 for each in exact):
        scale *= 10
    return math.lcm(*((scale * each).numerator for each in exact))
