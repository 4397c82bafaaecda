"""Windows."""

from __future__ import annotations

import pytest
from batch_work import RULES

from llmserve.errors import InvalidRequest


@pytest.mark.parametrize(("window", "seconds"), [("24h", 86_400), ("90m", 5400), ("1d", 86_400)])
def test_a_window_is_a_number_of_minutes_hours_or_days(window: str, seconds: int) -> None:
    assert RULES.window_seconds(window) == seconds


@pytest.mark.parametrize(
    "window", ["", "24", "h", "0h", "25h", "2d", "-1h", "1.5h", "24H", "9" * 99 + "m"]
)
def test_other_windows_are_refused(window: str) -> None:
    with pytest.raises(InvalidRequest, match="24h"):
        RULES.window_seconds(window)
