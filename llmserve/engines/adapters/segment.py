"""Which rows of a step have which adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NO_ADAPTER: Final = 0
"""As the id of an adapter."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows with the same adapter, from `start` up to and without `stop`; to the last if `None`."""

    adapter_id: int
    start: int
    stop: int | None
