"""What rules forbid in a step: found on threads beside the forward pass, applied to its logits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.token_mask import logit_limits

MAX_THREADS: Final = 4
"""They run beside the forward pass, which has the cores on a CPU."""
ROWS_PER_THREAD: Final = 4


class MaskThreads:
    """Computes masks while the step loop's thread is in the forward pass. Threads start with the
    first rule."""

    def __init__(self) -> None:
        count = min(MAX_THREADS, max(1, (os.cpu_count() or 1) // 2))
        self._pool = ThreadPoolExecutor(count, "generate-masks")
        self._count = count

    def begin(self, rows: Sequence[RowState]) -> Masks | None:
        """Start on the masks of the rows that have one, `None` if none has."""
        restricted = [index for index, row in enumerate(rows) if row.is_restricted]
        if not restricted:
            return None
        words = np.full((len(restricted), -(-rows[restricted[0]].vocab // 32)), -1, np.int32)
        share = max(ROWS_PER_THREAD, -(-len(restricted) // self._count))
        work = [
            self._pool.submit(_restrict, rows, restricted, words, range(begin, begin + share))
            for begin in range(0, len(restricted), share)
        ]
        return Masks(restricted, words, work)

    def close(self) -> None:
        """End the threads, of which none works between two steps."""
        self._pool.shutdown()


class Masks:
    """The masks of one step. Belongs to the step loop's thread; the words, while `work` runs, to
    its threads."""

    def __init__(
        self,
        restricted: list[int],
        words: npt.NDArray[np.int32],
        work: list[Future[None]],
    ) -> None:
        """`words` (len(restricted), num_words) are those of the rows `restricted`."""
        self._restricted = restricted
        self._words = words
        self._work = work

    def settle(self) -> None:
        """Wait until no thread works for them any more. Never raises."""
        wait(self._work)

    def check(self) -> None:
        """
        Raises:
            GenerationFailed: a rule cannot go on; the step is tried again without its row.
        """
        for future in self._work:
            future.result()

    def keep(self, logits: torch.Tensor, rows: Sequence[RowState]) -> torch.Tensor | None:
        """A copy of the restricted rows, (len(restricted), vocab), if anything is going to change
        them."""
        if all(rows[index].is_plain for index in self._restricted):
            return None
        return logits[self._restricted]

    def apply(self, logits: torch.Tensor, kept: torch.Tensor | None) -> None:
        """Forbid, in place, in logits (num_rows, vocab).

        Where biases and minimum lengths leave none of a row's tokens, those of `kept` are used.
        """
        limits = self._limits(logits)
        if kept is None:
            if len(self._restricted) == len(logits):
                torch.minimum(logits, limits, out=logits)
                return
            for place, index in enumerate(self._restricted):
                torch.minimum(logits[index], limits[place], out=logits[index])
            return
        masked = torch.minimum(logits[self._restricted], limits)
        is_empty = masked.amax(-1, keepdim=True).isneginf()
        logits[self._restricted] = torch.where(is_empty, torch.minimum(kept, limits), masked)

    def _limits(self, logits: torch.Tensor) -> torch.Tensor:
        """(len(restricted), vocab); see `logit_limits`."""
        vocab = logits.shape[-1]
        if logits.device.type == "cpu":
            return logit_limits(self._words, vocab)
        # A bit for each token is copied, and the device unpacks it.
        words = torch.from_numpy(self._words).to(logits.device)
        bits = torch.arange(32, dtype=torch.int32, device=logits.device)
        allowed = ((words[:, :, None] >> bits) & 1).flatten(1)
        missing = max(0, vocab - allowed.shape[1])
        allowed = torch.nn.functional.pad(allowed, (0, missing))[:, :vocab]
        return torch.where(allowed == 1, torch.inf, -torch.inf).to(logits.dtype)


def _restrict(
    rows: Sequence[RowState],
    restricted: list[int],
    words: npt.NDArray[np.int32],
    places: range,
) -> None:
    for place in places[: max(0, len(restricted) - places.start)]:
        rule = rows[restricted[place]].rule
        assert rule is not None, "a restricted row has a rule"
        rule.restrict(words[place])
