"""Decides what the next step computes: a token for every running sequence, and prefill with what is
left of the step; background work as far as it is allowed beside others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmserve.engines.batching.schedule.allowance import EVERYTHING, Allowance
from llmserve.engines.batching.schedule.blocks import BlockPool
from llmserve.engines.batching.schedule.budget import Budget
from llmserve.engines.batching.schedule.invariant import require
from llmserve.engines.batching.schedule.pins import Pins
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.prefix_cache import PrefixCache
from llmserve.engines.batching.schedule.recurrent_states import RecurrentStates
from llmserve.engines.batching.schedule.room import Room
from llmserve.engines.batching.schedule.score_cache import ScoreCache
from llmserve.engines.batching.schedule.sequence import NO_STATE, Sequence
from llmserve.engines.batching.schedule.states import States
from llmserve.engines.batching.schedule.stats import SchedulerStats
from llmserve.engines.batching.schedule.tables import BlockTables
from llmserve.engines.batching.schedule.tier import Tier
from llmserve.engines.scores import Scores

NO_SCORES: Final[Mapping[Sequence, Scores]] = {}


class Scheduler:
    """Chunked prefill beside decode (Agrawal et al., Sarathi-Serve, 2024), preemption by
    recomputation, prefixes shared block by block, callers served fairly.

    A sequence waits, then runs: it has blocks, and a slice in most steps. A background sequence
    that gets none is paused; it loses its blocks and its place as soon as another needs them.
    Owned by one thread.

    Raises:
        ValueError: a step has fewer tokens than sequences that may run, or no state has a slot.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        max_tokens_per_step: int,
        max_sequences: int,
        max_scored_per_step: int | None = None,
        num_states: int | None = None,
        is_caching: bool = True,
    ) -> None:
        """`max_scored_per_step`: prompt tokens that are scored in one step, at least 1; all if
        absent. `num_states`: slots for recurrent states; absent if the model has none."""
        if max_sequences > max_tokens_per_step:
            raise ValueError(
                f"max_sequences is {max_sequences} and a step takes {max_tokens_per_step} tokens"
            )
        if num_states is not None and num_states < 1:
            raise ValueError("a model with recurrent states needs a slot for one")
        self._block_size = block_size
        self._max_tokens = max_tokens_per_step
        self._max_sequences = max_sequences
        self._max_scored = max_scored_per_step or max_tokens_per_step
        self._is_caching = is_caching
        self._pool = BlockPool(num_blocks, lambda content: self._states.forget(content))
        self._tables = BlockTables(self._pool, block_size)
        self._cache = PrefixCache(self._pool, block_size)
        self._scores = ScoreCache(self._cache, block_size)
        self._states = States()
        self._has_states = num_states is not None  # spares plain models a call for each row
        if num_states is not None:
            self._states = RecurrentStates(
                num_states, self._cache, block_size, is_keeping=is_caching
            )
        self._pins = Pins(self._pool, self._cache, self._states)
        self._room = Room(self._pool, self._tables, self._states, self._pins)
        self._foreground = Tier()
        self._background = Tier()
        self._known: set[Sequence] = set()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._known

    def add(self, sequence: Sequence) -> None:
        """Put a sequence into the waiting queue.

        Raises:
            ValueError: it has no tokens, was added before, or would never fit into the pool with
                its prompt and `max_new_tokens`.
        """
        if not sequence.num_tokens or sequence in self._known:
            raise ValueError("a sequence is added once, and has at least one token")
        most = sequence.num_tokens + sequence.max_new_tokens
        if self._tables.num_blocks_for(most) > self._pool.num_blocks:
            raise ValueError(
                f"{sequence.num_tokens} tokens and {sequence.max_new_tokens} more need more than "
                f"the {self._pool.num_blocks} blocks of {self._block_size} that there are"
            )
        self._known.add(sequence)
        tier = self._tier(sequence)
        tier.shares.enter(sequence.caller)
        tier.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, whether it waits or runs; harmless if it was removed before."""
        if sequence not in self._known:
            return
        self._known.discard(sequence)
        tier = self._tier(sequence)
        if sequence in tier.running:
            del tier.running[sequence]
            self._close(sequence)
        else:
            tier.waiting.remove(sequence)
        tier.shares.leave(sequence.caller)

    def plan(
        self, prefill_tokens: int | None = None, background: Allowance = EVERYTHING
    ) -> StepPlan:
        """The next step; empty if nothing can be computed now.

        `prefill_tokens` bounds how many prompt tokens the step takes; its own bound holds, too.
        `background` bounds background work while there is any other.
        """
        self._states.renew()
        lengths: dict[Sequence, int] = {}
        most = self._max_tokens if prefill_tokens is None else prefill_tokens
        budget = Budget(most, self._max_scored)
        decoding, begun = self._foreground.parts()
        self._fill(self._foreground, decoding, begun, budget, lengths)
        if self._background:
            decoding, begun = self._background.parts()
            if self._foreground:
                rows = min(background.rows, self._max_tokens - sum(lengths.values()))
                if rows < len(decoding):
                    decoding = self._background.least_served_first(decoding)[:rows]
                budget.tokens = min(budget.tokens, background.tokens)
            self._fill(self._background, decoding, begun, budget, lengths)
        slices = [_slice(sequence, length) for sequence, length in lengths.items()]
        if self._has_states:
            slices = [self._states.piece(part) for part in slices]
        slices.sort(key=lambda part: (part.length > 1, part.sequence.adapter_id))
        return StepPlan(tuple(slices))

    def commit(
        self,
        plan: StepPlan,
        next_ids: list[int],
        scores: Mapping[Sequence, Scores] = NO_SCORES,
    ) -> None:
        """Record that a step was computed; `next_ids` are the tokens of the sampled slices, in the
        plan's order, and `scores` those of sequences with prompt tokens to score.

        Raises:
            ValueError: there is not one token for each sampled slice; nothing is changed.
        """
        num_sampled = sum(part.is_sampled for part in plan.slices)
        if len(next_ids) != num_sampled:
            raise ValueError(f"{num_sampled} slices are sampled and {len(next_ids)} tokens came")
        ids = iter(next_ids)
        for part in plan.slices:
            next_id = next(ids) if part.is_sampled else None
            sequence = part.sequence
            tier = self._tier(sequence)
            if sequence not in tier.running:
                continue  # it was removed meanwhile
            sequence.num_computed = part.end
            if self._is_caching:
                self._cache.register(sequence, part.start)
            if self._has_states:
                self._states.commit(part)
            if part.scored:
                self._scored(part, scores[sequence])
            if next_id is not None:
                sequence.token_ids.append(next_id)
                tier.charge(sequence, 0, 1)

    def pin(self, token_ids: tuple[int, ...]) -> int:
        """Keep the blocks of a prefix that was just computed; returns how many tokens are kept.

        Whole blocks only, and at most half of the pool for all prefixes: 0 beyond that.
        """
        return self._pins.add(token_ids) * self._block_size

    def stats(self) -> SchedulerStats:
        """Counts of now."""
        foreground, background = self._foreground, self._background
        return SchedulerStats(
            running=self._num_running,
            waiting=len(foreground.waiting) + len(background.waiting),
            blocks_used=self._pool.num_blocks - self._pool.num_free,
            blocks_total=self._pool.num_blocks,
            preemptions=foreground.preemptions + background.preemptions,
            background_running=len(background.running),
            background_waiting=len(background.waiting),
            background_begun=background.num_begun,
            states=self._states.counts,
        )

    def check(self) -> None:
        """Look for contradictions. Takes some 200 ns for each block of the pool.

        Raises:
            InvariantViolated: blocks, states and sequences do not agree.
        """
        tiers = (self._foreground, self._background)
        running = [sequence for tier in tiers for sequence in tier.running]
        self._pool.check([*(s.blocks for s in running), *self._pins.holders])
        self._states.check(running)
        waiting = self._known.difference(running)
        require(self._known.issuperset(running), "a removed sequence still runs")
        num_waiting = sum(len(tier.waiting) for tier in tiers)
        require(len(waiting) == num_waiting, "a sequence neither runs nor waits")
        require(not any(s.blocks or s.num_computed for s in waiting), "a waiting one has blocks")
        has_state = any(s.state != NO_STATE for s in waiting)
        require(not has_state, "a waiting one has a state")
        require(len(running) <= self._max_sequences, "more sequences run than may")
        for tier in tiers:
            callers = {s.caller for s in self._known if self._tier(s) is tier}
            is_matching = tier.shares.num_callers == len(callers)
            require(is_matching, "callers and their shares do not match")

    @property
    def _num_running(self) -> int:
        return len(self._foreground.running) + len(self._background.running)

    def _tier(self, sequence: Sequence) -> Tier:
        return self._background if sequence.is_background else self._foreground

    def _fill(
        self,
        tier: Tier,
        decoding: list[Sequence],
        begun: list[Sequence],
        budget: Budget,
        lengths: dict[Sequence, int],
    ) -> None:
        """Place slices of a tier: a token for each that decodes, then prompts."""
        preemptions = tier.preemptions
        for sequence in decoding:
            if sequence in tier.running:  # it was not preempted meanwhile
                self._place(sequence, 1, lengths)
        budget.tokens = min(budget.tokens, self._max_tokens - sum(lengths.values()))
        self._continue_prefill(tier, begun, budget, lengths)
        if tier.preemptions == preemptions:
            self._admit(tier, budget, lengths)

    def _continue_prefill(
        self,
        tier: Tier,
        begun: list[Sequence],
        budget: Budget,
        lengths: dict[Sequence, int],
    ) -> None:
        """Place slices of prompts that were begun."""
        for sequence in begun:
            start = sequence.num_computed
            length = budget.length(sequence, start)
            if length < 1:
                break
            if sequence in tier.running and self._place(sequence, length, lengths):
                budget.spend(sequence, start, length)
        for sequence in begun:
            tier.charge(sequence, lengths.get(sequence, 0), 0)

    def _admit(self, tier: Tier, budget: Budget, lengths: dict[Sequence, int]) -> None:
        """Let waiting sequences run, in order, until one finds no room.

        There are tokens left only if all begun prompts were placed to their end, or cut where a
        state is to be kept, holding the blocks of what comes after: at most one prompt of a tier is
        ever partly computed without them, and no newcomer can take what it still needs.
        """
        if tier is self._background and len(self._foreground.waiting):
            return  # what is left is not enough for them, and would be taken back
        while budget.tokens > 0:
            sequence = tier.waiting.first()
            if sequence is None or not self._has_place(tier):
                return
            found = self._found(sequence)
            shared = found[: self._states.num_shared(sequence, len(found))]
            start = len(shared) * self._block_size
            length = budget.length(sequence, start)
            if length < 1 or not self._has_room(tier, sequence, shared):
                return
            if self._num_running == self._max_sequences:
                self._preempt(self._background.victim())
            tier.waiting.remove(sequence)
            tier.running[sequence] = None
            self._tables.open(sequence, shared)
            self._states.open(sequence, len(shared), len(found))
            if not sequence.num_preemptions:
                sequence.num_cached = sequence.num_computed
            self._tables.extend(sequence, start + length)
            budget.spend(sequence, start, length)
            length = self._states.cut(sequence, length)
            # Charged now, not when computed: else one caller could take every free place of a step.
            tier.charge(sequence, length, 0)
            lengths[sequence] = length

    def _has_place(self, tier: Tier) -> bool:
        """Whether a newcomer may find place and room, so that it is worth a look."""
        if tier is self._foreground and self._background.running:
            return len(tier.running) < self._max_sequences
        running = self._num_running
        return running < self._max_sequences and not self._room.is_full(running)

    def _has_room(self, tier: Tier, sequence: Sequence, shared: list[int]) -> bool:
        """Whether there are blocks for a newcomer; background work loses its own for others."""
        while True:
            yields = tier is self._foreground and bool(self._background.running)
            reserve = len(tier.running) if yields else self._num_running
            if self._room.fits(sequence, shared, reserve, drops_pins=not self._num_running):
                return True
            if not yields:
                return False
            self._preempt(self._background.victim())

    def _found(self, sequence: Sequence) -> list[int]:
        """Cached blocks with which a sequence may begin, if its state is known after them: the
        position after them is one that it scores at the latest, if there is any left."""
        if not self._is_caching:
            return []
        shared, scoring = self._cache.match(sequence), sequence.scoring
        if scoring is None:
            return shared
        self._scores.find(sequence)
        return shared if scoring.is_over else shared[: scoring.num_scored // self._block_size]

    def _scored(self, part: Slice, scores: Scores) -> None:
        scoring = part.sequence.scoring
        assert scoring is not None, "only such sequences have positions to score"
        scoring.num_scored = part.scored.stop
        if self._is_caching:
            self._scores.keep(part.sequence, scores)

    def _place(self, sequence: Sequence, length: int, lengths: dict[Sequence, int]) -> bool:
        """Give a running sequence a slice, preempting others for blocks if need be; `False` if it
        was itself the one to be preempted."""
        end = sequence.num_computed + length
        missing = self._tables.num_missing(sequence, end)
        if missing > 0:
            while missing > self._pool.num_free:
                if self._num_running == 1 and self._pins.drop_oldest():
                    continue
                losing = self._background if self._background.running else self._foreground
                victim = losing.victim()
                lengths.pop(victim, None)
                self._preempt(victim)
                if victim is sequence:
                    return False
            self._tables.extend(sequence, end)
        lengths[sequence] = length if length == 1 else self._states.cut(sequence, length)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        tier = self._tier(sequence)
        del tier.running[sequence]
        self._close(sequence)
        sequence.num_computed = 0
        sequence.num_preemptions += 1
        tier.preemptions += 1
        tier.waiting.push_front(sequence)

    def _close(self, sequence: Sequence) -> None:
        self._tables.close(sequence)
        self._states.close(sequence)


def _slice(sequence: Sequence, length: int) -> Slice:
    start = sequence.num_computed
    is_sampled = start + length == len(sequence.token_ids) and sequence.max_new_tokens > 0
    scoring = sequence.scoring
    if scoring is None:
        return Slice(sequence, start, length, is_sampled)
    return Slice(sequence, start, length, is_sampled, scoring.wanted(start, start + length))
