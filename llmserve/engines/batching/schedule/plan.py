"""What one step computes."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.engines.batching.schedule.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens `start` to `start + length` of a sequence, whose blocks reach that far.

    `is_sampled` if the slice ends with the newest token: its logits choose the next one. `scored`:
    positions among them whose logits score the prompt's next token. `restored_from`: the slot whose
    recurrent state the sequence goes on with, if not its own. `saved_to`: the slot that keeps the
    state after the slice, a checkpoint, beside the sequence's own.
    """

    sequence: Sequence
    start: int
    length: int
    is_sampled: bool
    scored: range = range(0)
    restored_from: int | None = None
    saved_to: int | None = None

    @property
    def end(self) -> int:
        """How many tokens the sequence has in the cache after the step."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step. Slices of one token (decode) come first, then longer ones (prefill); of
    each kind, those with the same adapter are neighbours."""

    slices: tuple[Slice, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens that the step computes."""
        return sum(part.length for part in self.slices)
