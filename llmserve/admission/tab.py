"""A caller's tab: what it has used of its limits. Plain arithmetic; knows no files and no clock.

As bytes, little-endian, every field 8 bytes wide:

    0       8       16   24         32      40   48         56         64
    | magic | level | at | capacity | level | at | capacity | num_rows |
            '------ requests -------'------- tokens --------'

    64 + 32·row:  | pid | started | number | open |
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Final, Self

from llmserve.admission.holder import Holder

MINUTE: Final = 60.0
TOLERANCE: Final = 1e-6
"""A bucket that lacks less than this is full enough: the rest is rounding."""

MAGIC: Final = b"llmstab1"
HEADER: Final = struct.Struct("<8s6dQ")
ROW: Final = struct.Struct("<4Q")


@dataclass(slots=True)
class TokenBucket:
    """A token bucket, filled at a steady rate of `capacity` per minute up to `capacity`.

    A level below zero is debt. `at` is when `level` was computed, by the machine's clock, which is
    the same for every process. If that clock starts again (a reboot), nothing is refilled at first.
    """

    level: float = 0.0
    at: float = 0.0
    capacity: float = 0.0

    def refill(self, now: float, slept: float = 0.0) -> None:
        """Bring the level up to date; `slept` of the seconds since `at` do not count."""
        gained = max(0.0, now - self.at - slept) * self.capacity / MINUTE
        self.level = min(self.capacity, self.level + gained)
        self.at = now

    def resize(self, capacity: float) -> None:
        """Change the limit; a bucket that was never used is full."""
        self.level = min(self.level, capacity) if self.capacity else capacity
        self.capacity = capacity

    def seconds_until(self, level: float) -> float:
        """How long it takes to fill up to `level`; 0 if it is reached."""
        missing = level - self.level
        return missing * MINUTE / self.capacity if missing > TOLERANCE else 0.0


@dataclass(slots=True)
class Tab:
    """Both buckets, and how many requests each holder has open."""

    requests: TokenBucket = field(default_factory=TokenBucket)
    tokens: TokenBucket = field(default_factory=TokenBucket)
    open: dict[Holder, int] = field(default_factory=dict)

    def set_open(self, holder: Holder, count: int) -> None:
        """Set a holder's own count; adding a holder drops the dead ones."""
        if holder not in self.open:
            self.drop_dead(holder)
        self.open[holder] = count

    def drop_dead(self, myself: Holder) -> None:
        """Forget the requests of holders that are dead."""
        self.open = {h: n for h, n in self.open.items() if h == myself or h.is_alive}

    def to_bytes(self) -> bytes:
        """In the layout shown above."""
        r, t = self.requests, self.tokens
        header = HEADER.pack(
            MAGIC, r.level, r.at, r.capacity, t.level, t.at, t.capacity, len(self.open)
        )
        rows = (ROW.pack(h.pid, h.started, h.number, count) for h, count in self.open.items())
        return header + b"".join(rows)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A tab from its bytes; a fresh one if they are empty or damaged."""
        if len(data) < HEADER.size:
            return cls()
        magic, *numbers, num_rows = HEADER.unpack_from(data)
        end = HEADER.size + num_rows * ROW.size
        if magic != MAGIC or len(data) < end or not all(map(math.isfinite, numbers)):
            return cls()
        rows = ROW.iter_unpack(data[HEADER.size : end])
        held = {Holder(pid, started, number): count for pid, started, number, count in rows}
        return cls(TokenBucket(*numbers[:3]), TokenBucket(*numbers[3:]), held)
