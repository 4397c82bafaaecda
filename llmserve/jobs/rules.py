"""What a batch may be, and how long things are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from llmserve.errors import InvalidRequest

WINDOW: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")
UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Rules:
    """From the settings.

    Attributes:
        lease_seconds: after so long without a sign of life, a worker's lines are another's.
        keep_seconds: how long files, and batches that ended, are kept.
    """

    lease_seconds: float
    keep_seconds: float
    max_window_seconds: float
    max_lines: int
    max_body_bytes: int
    max_upload_bytes: int
    lines_at_once: int

    def window_seconds(self, window: str) -> float:
        """The seconds of "24h", "30m" or "7d".

        Raises:
            InvalidRequest: it is none of these, or too long.
        """
        found = WINDOW.fullmatch(window)
        seconds = int(found[1]) * UNITS[found[2]] if found is not None else 0
        if not 0 < seconds <= self.max_window_seconds:
            raise InvalidRequest(
                'completion_window must be a number of minutes, hours or days such as "24h", and '
                f"not over {self.max_window_seconds:,.0f} s on this server",
                param="completion_window",
            )
        return seconds
