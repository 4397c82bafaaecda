"""How many tokens of a batch a GPU has room for, found out before requests come."""

from __future__ import annotations

from array import array
from typing import Protocol

import torch
from loguru import logger

from llmserve.engines.encoding.loading import LoadedEncoder
from llmserve.engines.encoding.loop import Computation
from llmserve.engines.encoding_task import TokenInput
from llmserve.errors import OutOfMemory


class Gauge(Protocol):
    """Measures the memory of a device."""

    def reset(self) -> None:
        """Forget the peak."""
        ...

    def peak(self) -> int:
        """Bytes, since then, beyond what is allocated now."""
        ...


class TorchGauge:
    """By torch's allocator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        """See the protocol."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        """See the protocol."""
        allocated = torch.cuda.memory_allocated(self._device)
        return torch.cuda.max_memory_allocated(self._device) - allocated


def fitting(
    loaded: LoadedEncoder, computation: Computation, most: int, gauge: Gauge | None = None
) -> tuple[int, int]:
    """A number of tokens, `most` or halves of it, and the bytes that a batch of so many takes.

    Raises:
        OutOfMemory: not even one input of the longest kind fits.
    """
    gauge = gauge or TorchGauge(loaded.device)
    longest = TokenInput(array("i", [loaded.pad_id] * loaded.max_context))
    budget = max(most, len(longest))
    while True:
        gauge.reset()
        try:
            computation.compute([longest] * (budget // len(longest)), is_alone=True)
        # Whatever a batch of this size raises.
        except Exception as error:
            failure = computation.diagnose(error)
            if not isinstance(failure, OutOfMemory) or budget < 2 * len(longest):
                raise failure from error
            budget //= 2
            logger.info("a batch of twice {} tokens does not fit the device", budget)
            continue
        return budget, gauge.peak()
