"""The least common multiple of decimal numbers."""

from __future__ import annotations

import pytest

from llmserve.engines.constraints.common_multiple import common_multiple


@pytest.mark.parametrize(
    ("divisors", "digits"),
    [([], 1), ([7], 7), ([2, 3], 6), ([4, 6], 12), ([0.5], 5), ([0.5, 3], 30), ([0.25, 0.5], 50)],
)
def test_digits_count_the_decimals_that_the_divisors_need(
    divisors: list[float], digits: int
) -> None:
    assert common_multiple(divisors) == digits
