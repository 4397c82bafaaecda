"""How the bytes of a stream arrived: one by one, in lumps, or all at the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BURST_SECONDS: Final = 0.005
"""Bytes this close together count as one burst."""

END_SECONDS: Final = 0.02
"""The length of a stream's end, for the share of bytes that came only then."""

SHARE_AT_END: Final = 0.7
WORK_SECONDS: Final = 0.25
"""A stream that took less time may have arrived all at once without being buffered."""

LUMP_EVENTS: Final = 8
LUMP_SECONDS: Final = 0.2
"""A reader notices so many tokens at once after so long a pause."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Some bytes, and when they arrived, in seconds after the request was sent."""

    seconds: float
    num_bytes: int


class Flow(StrEnum):
    """How a pace is classified."""

    STEADY = "steady"
    LUMPS = "lumps"
    AT_THE_END = "at the end"
    TOO_FAST = "too fast"


@dataclass(frozen=True, slots=True)
class Pace:
    """One stream, measured.

    Attributes:
        share_at_end: bytes that came in the last `END_SECONDS`, of all bytes.
        typical_lump_events: half of the bytes came in bursts of at least so many events.
        typical_pause_seconds: half of the bytes came after a pause of at least so long.
    """

    num_events: int
    num_bursts: int
    first_seconds: float
    last_seconds: float
    largest_gap_seconds: float
    share_at_end: float
    typical_lump_events: float
    typical_pause_seconds: float

    @property
    def spread_seconds(self) -> float:
        """From the first byte to the last."""
        return self.last_seconds - self.first_seconds

    def flow(self, latency_seconds: float) -> Flow:
        """Classify the pace; `latency_seconds` is how long an answer without work takes."""
        if self.share_at_end >= SHARE_AT_END:
            took = self.last_seconds - latency_seconds
            return Flow.AT_THE_END if took >= WORK_SECONDS else Flow.TOO_FAST
        is_lumpy = (
            self.typical_lump_events >= LUMP_EVENTS and self.typical_pause_seconds >= LUMP_SECONDS
        )
        return Flow.LUMPS if is_lumpy else Flow.STEADY


def measure(arrivals: Sequence[Arrival], num_events: int) -> Pace:
    """The pace of arrivals, at least one and in order of time, with so many events."""
    total = sum(arrival.num_bytes for arrival in arrivals)
    end = arrivals[-1].seconds
    late = sum(a.num_bytes for a in arrivals if a.seconds > end - END_SECONDS)
    bursts = _bursts(arrivals)
    starts = [0.0, *(burst.seconds for burst in bursts)]
    pauses = [later - sooner for sooner, later in itertools.pairwise(starts)]
    sizes = [burst.num_bytes for burst in bursts]
    lump = _median_by_weight([float(size) for size in sizes], sizes)
    return Pace(
        num_events=num_events,
        num_bursts=len(bursts),
        first_seconds=arrivals[0].seconds,
        last_seconds=end,
        largest_gap_seconds=max(pauses[1:], default=0.0),
        share_at_end=late / total,
        typical_lump_events=lump * num_events / total,
        typical_pause_seconds=_median_by_weight(pauses, sizes),
    )


def _bursts(arrivals: Sequence[Arrival]) -> list[Arrival]:
    bursts: list[Arrival] = []
    for arrival in arrivals:
        if bursts and arrival.seconds - bursts[-1].seconds <= BURST_SECONDS:
            last = bursts[-1]
            bursts[-1] = Arrival(last.seconds, last.num_bytes + arrival.num_bytes)
        else:
            bursts.append(arrival)
    return bursts


def _median_by_weight(values: Sequence[float], weights: Sequence[int]) -> float:
    """The value that half of the weight does not exceed."""
    half = sum(weights) / 2
    passed = 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        passed += weight
        if passed >= half:
            return value
    return values[-1]
