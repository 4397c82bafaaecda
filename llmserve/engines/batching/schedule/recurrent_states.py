"""Gives sequences their slots in the state pool, and decides which states are kept and found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from llmserve.engines.batching.schedule.invariant import require
from llmserve.engines.batching.schedule.plan import Slice
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache
from llmserve.engines.batching.schedule.sequence import NO_STATE, Sequence
from llmserve.engines.batching.schedule.state_slots import Checkpoint, StateSlots
from llmserve.engines.batching.schedule.states import States
from llmserve.engines.batching.schedule.stats import StateCounts

LEAST_BLOCKS: Final = 4
"""Between two checkpoints of a sequence: fewer are computed again in the time of one step."""
MOST_IN_PROMPT: Final = 4
"""Checkpoints that a long prompt leaves on its way, besides those at its end and where it parts
from another."""


@dataclass(slots=True)
class _Course:
    """A running sequence, in tokens from its first one on.

    Attributes:
        begins_with: the checkpoint from which its first slice is computed, until it is.
        parting: up to where other sequences' blocks were found.
        boundary: the last full block of what it has to compute before it decodes.
        spacing: between checkpoints on the way there.
        last: where the state was last kept.
        saving: the hash and slot of the checkpoint that the planned step makes.
        answered: the hash of the last checkpoint after `boundary`.
    """

    begins_with: Checkpoint | None
    parting: int
    boundary: int
    spacing: int
    last: int
    saving: tuple[bytes, int] | None = None
    answered: bytes | None = None


class RecurrentStates(States):
    """A recurrent state stands for all tokens before it, and cannot be cut like keys and values: a
    prompt may share an earlier one's blocks only up to where the state was kept, a checkpoint. It
    has the hash of the block that it comes after. Where there is none, nothing is shared.

    A checkpoint takes as much memory as thousands of tokens, so they are made where they are
    likely to be found, at ends of blocks, `LEAST_BLOCKS` apart:

    - at the last full block of a prompt, for the same prompt and the next turn of a conversation.
      The slice is cut there, which delays the first token by one step;
    - where a prompt's blocks stop being those of earlier ones although no state was kept there:
      what a second prompt shares with a first, as a system prompt, a third is likely to share, too.
      The slice is cut there (as in SGLang's radix cache of hybrid models);
    - where a step's budget cuts a long prompt, at most `MOST_IN_PROMPT` times: it need not begin
      again when it is preempted, nor the second prompt that parts from it. They are the first to be
      evicted;
    - in the answer, in one slot for each sequence that goes along: for the next turn, as it is not
      known which token is the last one.
    """

    def __init__(
        self, num_slots: int, cache: PrefixCache, block_size: int, *, is_keeping: bool = True
    ) -> None:
        self._slots = StateSlots(num_slots)
        self._is_keeping = is_keeping
        self._cache = cache
        self._block_size = block_size
        self._least = LEAST_BLOCKS * block_size
        self._courses: dict[Sequence, _Course] = {}
        self._saving: dict[bytes, Sequence] = {}
        self._pinned: list[Checkpoint] = []
        self._num_hits = 0

    @property
    def counts(self) -> StateCounts:
        slots = self._slots
        return StateCounts(
            len(self._courses), slots.num_slots, slots.num_checkpoints, self._num_hits
        )

    @property
    def has_room(self) -> bool:
        return self._slots.num_available > 0

    def deepest(self, hashes: list[bytes]) -> int:
        for count in range(len(hashes), 0, -1):
            if self._slots.find(hashes[count - 1]) is not None:
                return count
        return 0

    def num_shared(self, sequence: Sequence, num_found: int) -> int:
        count = self.deepest(sequence.block_hashes[:num_found])
        found = self._slots.find(sequence.block_hashes[count - 1]) if count else None
        if found is None:
            return 0
        # If it lies in the only slot that could become the newcomer's, it is of no use.
        return count if found.num_holds or self._slots.num_available > 1 else 0

    def open(self, sequence: Sequence, num_shared: int, num_found: int) -> None:
        size = self._block_size
        begins_with = None
        if num_shared:
            begins_with = self._slots.find(sequence.block_hashes[num_shared - 1])
            assert begins_with is not None, "shared blocks end before a kept state"
            self._slots.hold(begins_with)  # before a slot is taken, which may be any checkpoint's
            self._num_hits += 1
        self._courses[sequence] = _Course(
            begins_with,
            parting=num_found * size,
            boundary=(sequence.num_tokens - 1) // size * size,
            spacing=max(self._least, sequence.num_tokens // MOST_IN_PROMPT),
            last=num_shared * size,
        )
        sequence.state = self._slots.allocate()

    def close(self, sequence: Sequence) -> None:
        course = self._courses.pop(sequence)
        self._give_up(course)
        if course.begins_with is not None:
            self._slots.let_go(course.begins_with)
        self._slots.release(sequence.state)
        sequence.state = NO_STATE

    def cut(self, sequence: Sequence, length: int) -> int:
        if not self._is_keeping or not self._slots.num_available:
            return length
        course, start = self._courses[sequence], sequence.num_computed
        for end in (course.parting, course.boundary):
            is_inside = start < end < start + length and end - course.last >= self._least
            if is_inside and self._is_new(sequence.block_hashes[end // self._block_size - 1]):
                return end - start
        if start + length < sequence.num_tokens:
            end = (start + length) // self._block_size * self._block_size
            if end > start and end - course.last >= course.spacing:
                return end - start
        return length

    def renew(self) -> None:
        for sequence in list(self._saving.values()):
            self._give_up(self._courses[sequence])

    def piece(self, part: Slice) -> Slice:
        course = self._courses[part.sequence]
        begins_with = course.begins_with
        restored_from = None if begins_with is None else begins_with.slot
        saved_to = self._save(part, course)
        if restored_from is None and saved_to is None:
            return part
        return replace(part, restored_from=restored_from, saved_to=saved_to)

    def commit(self, part: Slice) -> None:
        course = self._courses[part.sequence]
        if course.begins_with is not None:
            self._slots.let_go(course.begins_with)
            course.begins_with = None
        if course.saving is None:
            return
        content, slot = course.saving
        course.saving = None
        del self._saving[content]
        self._slots.keep(content, slot, is_passing=self._is_passing(part.end, course))
        course.last = part.end
        if part.end > course.boundary:
            course.answered = content

    def pin(self, content: bytes) -> bool:
        checkpoint = self._slots.find(content)
        assert checkpoint is not None, "a prefix is pinned up to where its state was kept"
        if 2 * len({*(pin.slot for pin in self._pinned), checkpoint.slot}) > self._slots.num_slots:
            return False
        self._slots.hold(checkpoint)
        self._pinned.append(checkpoint)
        return True

    def unpin(self, content: bytes) -> None:
        checkpoint = self._slots.find(content)
        assert checkpoint is not None, "a held checkpoint stays"
        self._pinned.remove(checkpoint)
        self._slots.let_go(checkpoint)

    def forget(self, content: bytes) -> None:
        self._slots.forget(content)

    def check(self, running: Iterable[Sequence]) -> None:
        require(self._courses.keys() == set(running), "not those that run have states")
        courses = self._courses.values()
        slots = [sequence.state for sequence in self._courses]
        saving = [course.saving for course in courses if course.saving is not None]
        begins = [course.begins_with for course in courses if course.begins_with is not None]
        is_listed = self._saving.keys() == {content for content, _ in saving}
        require(is_listed and len(self._saving) == len(saving), "a state is kept twice")
        self._slots.check([*slots, *(slot for _, slot in saving)], [*begins, *self._pinned])

    def _save(self, part: Slice, course: _Course) -> int | None:
        """A slot for the state after a slice, if it should be kept and there is room for it."""
        gap = part.end - course.last
        if not self._is_keeping or gap < self._least or part.end % self._block_size:
            return None
        if gap < course.spacing and self._is_passing(part.end, course):
            return None
        num_blocks = part.end // self._block_size
        self._cache.extend_hashes(part.sequence, num_blocks)
        content = part.sequence.block_hashes[num_blocks - 1]
        if not self._is_new(content):
            course.last = part.end
            return None
        slot = None
        if course.answered is not None:
            slot, course.answered = self._slots.take_unproven(course.answered), None
        if slot is None and self._slots.num_available:
            slot = self._slots.allocate()
        if slot is not None:
            course.saving = content, slot
            self._saving[content] = part.sequence
        return slot

    def _is_passing(self, end: int, course: _Course) -> bool:
        """Whether a checkpoint there is only one on the way: a better one will come."""
        return end != course.parting and end + self._least <= course.boundary

    def _is_new(self, content: bytes) -> bool:
        return self._slots.find(content) is None and content not in self._saving

    def _give_up(self, course: _Course) -> None:
        if course.saving is not None:
            content, slot = course.saving
            course.saving = None
            del self._saving[content]
            self._slots.release(slot)
