"""What rules forbid in a step: found on threads beside the forward pass, applied to its logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.token_mask import forbidden_tokens, logit_limits
from llmserve.machine.allowance import processors

MAX_THREADS: Final = 4
"""They run beside the forward pass, which has the cores on a CPU."""
MAX_THREADS_BESIDE_GPU: Final = 16
ROWS_PER_THREAD: Final = 4


class MaskThreads:
    """Computes masks while the step loop's thread is in the forward pass. Threads start with the
    first rule."""

    def __init__(self, device: torch.device) -> None:
        """`device` is where the logits are."""
        self._is_on_cpu = device.type == "cpu"
        self._rows_per_thread = ROWS_PER_THREAD if self._is_on_cpu else 1
        most = MAX_THREADS if self._is_on_cpu else MAX_THREADS_BESIDE_GPU
        self._count = min(most, max(1, processors() // 2))
        self._pool = ThreadPoolExecutor(self._count, "generate-masks")

    def begin(self, rows: Sequence[RowState]) -> Masks | None:
        """Start on the masks of the rows that have one, `None` if none has."""
        restricted = [index for index, row in enumerate(rows) if row.is_restricted]
        if not restricted:
            return None
        shape = len(restricted), -(-rows[restricted[0]].vocab // 32)
        # Pinned, so that the copy to a GPU waits for nothing.
        words = torch.full(shape, -1, dtype=torch.int32, pin_memory=not self._is_on_cpu)
        share = max(self._rows_per_thread, -(-len(restricted) // self._count))
        work = [
            self._pool.submit(
                _restrict, rows, restricted, words.numpy(), range(begin, begin + share)
            )
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
        words: torch.Tensor,
        work: list[Future[None]],
    ) -> None:
        """`words` (len(restricted), num_words) int32 in the host's memory are those of the rows
        `restricted`."""
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
        forbid = self._forbidding(logits)
        if kept is None and len(self._restricted) == len(logits):
            forbid(logits)
            return
        masked = logits[self._restricted]
        forbid(masked)
        if kept is not None:
            is_empty = masked.amax(-1, keepdim=True).isneginf()
            forbid(kept)
            masked = torch.where(is_empty, kept, masked)
        logits[self._restricted] = masked

    def _forbidding(self, logits: torch.Tensor) -> Callable[[torch.Tensor], object]:
        """What masks rows (len(restricted), vocab) in place."""
        vocab = logits.shape[-1]
        if logits.device.type == "cpu":
            limits = logit_limits(self._words.numpy(), vocab)
            return lambda rows: torch.minimum(rows, limits, out=rows)
        words = self._words.to(logits.device, non_blocking=True)
        forbidden = forbidden_tokens(words, vocab)
        return lambda rows: rows.masked_fill_(forbidden, -torch.inf)


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
