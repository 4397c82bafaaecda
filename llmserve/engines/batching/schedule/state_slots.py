"""The slots of the state pool: which are held by sequences, which keep a checkpoint, which are
free."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from llmserve.engines.batching.schedule.invariant import require


@dataclass(slots=True, eq=False)
class Checkpoint:
    """A state that is kept: the one after the block with the hash `content`.

    `num_holds`: pins, and sequences that are about to begin with it; it is evicted only without.
    """

    content: bytes
    slot: int
    num_holds: int = 0


class StateSlots:
    """A slot is free, or held by one sequence, or keeps one checkpoint.

    Checkpoints are evicted when a slot is needed. Many are made and few are found again, so those
    that never were go first, as long as they are more than a quarter; then the least recently
    found. (A segmented LRU: Karedla et al., Caching strategies to improve disk system performance,
    1994.)
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._free = list(range(num_slots - 1, -1, -1))
        self._checkpoints: dict[bytes, Checkpoint] = {}
        self._unproven: OrderedDict[bytes, Checkpoint] = OrderedDict()
        self._proven: OrderedDict[bytes, Checkpoint] = OrderedDict()

    @property
    def num_available(self) -> int:
        """Slots that `allocate` can give out."""
        return len(self._free) + len(self._unproven) + len(self._proven)

    @property
    def num_checkpoints(self) -> int:
        """States that are kept."""
        return len(self._checkpoints)

    def allocate(self) -> int:
        """Take a slot, for which a checkpoint may be evicted; there must be one."""
        if not self._free:
            is_new = len(self._unproven) * 4 > len(self._unproven) + len(self._proven)
            _, evicted = (self._unproven if is_new else self._proven).popitem(last=False)
            del self._checkpoints[evicted.content]
            return evicted.slot
        return self._free.pop()

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._free.append(slot)

    def find(self, content: bytes) -> Checkpoint | None:
        """What is kept under this hash."""
        return self._checkpoints.get(content)

    def keep(self, content: bytes, slot: int, *, is_passing: bool = False) -> None:
        """Make a slot that was allocated a checkpoint. If there is one with the same content, that
        one stays. One that `is_passing` goes before all others, unless it is found."""
        if content in self._checkpoints:
            self.release(slot)
            return
        self._checkpoints[content] = self._unproven[content] = Checkpoint(content, slot)
        if is_passing:
            self._unproven.move_to_end(content, last=False)

    def hold(self, checkpoint: Checkpoint) -> None:
        """Keep it from being evicted: it was found."""
        if checkpoint.num_holds == 0:
            self._unproven.pop(checkpoint.content, None)
            self._proven.pop(checkpoint.content, None)
        checkpoint.num_holds += 1

    def let_go(self, checkpoint: Checkpoint) -> None:
        """Drop one hold."""
        checkpoint.num_holds -= 1
        if checkpoint.num_holds == 0:
            self._proven[checkpoint.content] = checkpoint

    def take_unproven(self, content: bytes) -> int | None:
        """The slot of a checkpoint that nobody ever found, which is no checkpoint any more."""
        checkpoint = self._unproven.pop(content, None)
        if checkpoint is None:
            return None
        del self._checkpoints[content]
        return checkpoint.slot

    def forget(self, content: bytes) -> None:
        """Its block was evicted, so nobody can find it any more; it stays while it is held."""
        checkpoint = self._unproven.pop(content, None) or self._proven.pop(content, None)
        if checkpoint is not None:
            del self._checkpoints[content]
            self.release(checkpoint.slot)

    def check(self, held: Iterable[int], holds: Iterable[Checkpoint]) -> None:
        """Compare with the slots that sequences hold, and with who holds checkpoints.

        Raises:
            InvariantViolated: a slot is lost or has two owners, or a count is wrong.
        """
        kept = [checkpoint.slot for checkpoint in self._checkpoints.values()]
        slots = sorted([*self._free, *held, *kept])
        require(slots == list(range(self.num_slots)), "a state slot is lost, or has two owners")
        counts: dict[bytes, int] = {}
        for checkpoint in holds:
            is_kept = self._checkpoints.get(checkpoint.content) is checkpoint
            require(is_kept, "a checkpoint that is held was evicted")
            counts[checkpoint.content] = counts.get(checkpoint.content, 0) + 1
        for content, checkpoint in self._checkpoints.items():
            is_counted = checkpoint.num_holds == counts.get(content, 0)
            require(is_counted, "holds of a checkpoint differ from those of the holders")
            num_places = (content in self._unproven) + (content in self._proven)
            is_listed = num_places == (checkpoint.num_holds == 0)
            require(is_listed, "a checkpoint may be evicted while it is held, or never")
        listed = len(self._unproven) + len(self._proven) + len(counts)
        require(listed == len(self._checkpoints), "an evicted checkpoint is listed")
