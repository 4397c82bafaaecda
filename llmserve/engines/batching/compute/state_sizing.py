"""How many recurrent states there is memory for: of requests that run, and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmserve.engines.batching.compute.state_pool import NUM_RESERVED, num_places

MOST_CHECKPOINTS: Final = 8
"""For each request that may run. A conversation needs two or three."""


@dataclass(frozen=True, slots=True)
class NumStates:
    """Attributes:
    running: requests that run at once.
    checkpoints: states that are kept for prompts to come.
    bytes_each: of one state; 0 if the model has none.
    """

    running: int
    checkpoints: int = 0
    bytes_each: int = 0

    @property
    def num_slots(self) -> int:
        """What the scheduler gives out."""
        return self.running + self.checkpoints

    @property
    def num_places(self) -> int:
        """States that there is memory for: a step writes those of its requests anew."""
        return num_places(self.num_slots, self.running)

    @property
    def num_bytes(self) -> int:
        """Together."""
        return self.num_places * self.bytes_each

    def __str__(self) -> str:
        return (
            f"{self.num_places:,} recurrent states × {self.bytes_each:,} bytes = "
            f"{self.num_bytes:,} bytes (2 × {self.running:,} requests, {self.checkpoints:,} "
            f"checkpoints, {NUM_RESERVED} reserved)"
        )


def states_within(
    num_bytes: int, bytes_each: int, max_running: int, most_checkpoints: int
) -> NumStates:
    """As many requests as fit, at least one and no more than may run, then checkpoints."""
    if not bytes_each:
        return NumStates(max_running)
    left = num_bytes // bytes_each - NUM_RESERVED
    running = max(1, min(max_running, left // 2))
    checkpoints = max(0, min(most_checkpoints, left - 2 * running))
    return NumStates(running, checkpoints, bytes_each)


def share_of_states(
    num_bytes: int, bytes_each: int, max_running: int, *, least_left: int, is_caching: bool
) -> NumStates:
    """What of some memory is for states, if the rest is for keys and values.

    Those of the requests that run come first, but take no more than half: rather fewer run at once
    than that none finds room for its keys and values. A quarter of the rest is for checkpoints: a
    kept prefix needs both. `least_left` bytes stay for keys and values in any case; 0 if no layer
    attends, and nothing need stay.
    """
    half = num_bytes // 2 if least_left else num_bytes
    running = states_within(half, bytes_each, max_running, 0)
    left = num_bytes - running.num_bytes
    room = min(left // 4, left - least_left) if least_left else left
    if not bytes_each or not is_caching:
        return running
    checkpoints = max(0, min(room // bytes_each, MOST_CHECKPOINTS * running.running))
    return NumStates(running.running, checkpoints, bytes_each)
