"""What this machine can do: bytes read per second, and bf16 products per second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import torch

BUFFER_BYTES = 2 * 2**30
WIDTH = 4096
ROWS = (1, 8, 32, 64, 128, 256, 512)
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Ceilings:
    """`bytes_per_second`, and FLOP/s of a bf16 linear of 4096² by rows in a batch."""

    bytes_per_second: float
    flops_by_rows: dict[int, float]

    def flops(self, rows: float) -> float:
        """At the next larger batch that was measured: never too low a limit."""
        fitting = [count for count in self.flops_by_rows if count >= rows]
        return self.flops_by_rows[min(fitting, default=max(self.flops_by_rows))]

    def at_peak(self) -> Self:
        """As if few rows were multiplied at the rate of many."""
        return type(self)(self.bytes_per_second, {1: max(self.flops_by_rows.values())})

    @classmethod
    def best(cls, several: Iterable[Self]) -> Self:
        """The best of each: a shared machine gives more at one time than at another."""
        found = list(several)
        return cls(
            max(it.bytes_per_second for it in found),
            {rows: max(it.flops_by_rows[rows] for it in found) for rows in found[0].flops_by_rows},
        )


def measure(threads: int) -> Ceilings:
    """The best of a few tries each: a limit is what the machine does when nothing disturbs it."""
    torch.set_num_threads(threads)
    return Ceilings(BUFFER_BYTES / _best(_reader()), {rows: _flops(rows) for rows in ROWS})


def _reader() -> Callable[[], object]:
    buffer = torch.ones(BUFFER_BYTES // 4)
    return lambda: buffer.sum()


def _flops(rows: int) -> float:
    weight = torch.randn(WIDTH, WIDTH).bfloat16()
    batch = torch.randn(rows, WIDTH).bfloat16()
    return 2 * rows * WIDTH**2 / _best(lambda: torch.nn.functional.linear(batch, weight))


def _best(work: Callable[[], object]) -> float:
    """Seconds of the quickest of some tries."""
    work()
    tries = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        tries.append(time.perf_counter() - begun)
    return min(*tries, statistics.median(tries))
