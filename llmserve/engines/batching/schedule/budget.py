"""What one step has left for prompts."""

from __future__ import annotations

from dataclasses import dataclass

from llmserve.engines.batching.schedule.sequence import Sequence


@dataclass(slots=True)
class Budget:
    """Prompt tokens, and rows of logits that score them, which take much more memory than all else
    in a step."""

    tokens: int
    scored: int

    def length(self, sequence: Sequence, start: int) -> int:
        """How many tokens the sequence's slice from `start` may have."""
        length = min(self.tokens, sequence.num_tokens - start)
        if sequence.scoring is None:
            return length
        most = sequence.scoring.longest(start, self.scored)
        return length if most is None else min(length, most)

    def spend(self, sequence: Sequence, start: int, length: int) -> None:
        """A slice was placed. If it does not reach the end, there is nothing left for others, so
        that only one prompt is ever partly computed."""
        if sequence.scoring is not None:
            self.scored -= len(sequence.scoring.wanted(start, start + length))
        is_cut = start + length < sequence.num_tokens
        self.tokens = 0 if is_cut else self.tokens - length
