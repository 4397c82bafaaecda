"""Random arrivals, cancels and tiny pools against a model that remembers what it was shown."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.engines.batching.schedule.allowance import NOTHING, Allowance
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.recurrent_states import RecurrentStates
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import NO_STATE, Sequence

POISON = -1
MOST = 24
"""Tokens of a prompt."""
VOCAB = 5
"""Small, so that prompts often begin alike."""


def history(token_ids: list[int], salt: str = "") -> int:
    return zlib.crc32(salt.encode() + bytes(token_ids))


def next_token(token_ids: list[int]) -> int:
    return history(token_ids) % VOCAB


def answer(prompt: Iterable[int], length: int) -> list[int]:
    tokens = list(prompt)
    num_prompt = len(tokens)
    for _ in range(length):
        tokens.append(next_token(tokens))
    return tokens[num_prompt:]


@dataclass
class Model:
    """Holds, for every place in the cache, the history of tokens that was written there, and in
    every slot of its states the history of a sequence."""

    block_size: int
    memory: dict[tuple[int, int], int] = field(default_factory=dict)
    states: dict[int, int] = field(default_factory=dict)

    def run(self, plan: StepPlan) -> list[int]:
        next_ids = []
        for part in plan.slices:
            sequence = part.sequence
            if sequence.state != NO_STATE:
                self.advance(part)
            places = [
                (sequence.blocks[i // self.block_size], i % self.block_size)
                for i in range(part.end)
            ]
            for i in range(part.start, part.end):
                self.memory[places[i]] = history(sequence.token_ids[: i + 1], sequence.cache_salt)
            part_ids = sequence.token_ids
            for i, place in enumerate(places):
                own = history(part_ids[: i + 1], sequence.cache_salt)
                assert self.memory.get(place) == own, "somebody else's tokens"
            if part.is_sampled:
                assert part.end == sequence.num_tokens
                next_ids.append(next_token(part_ids))
        return next_ids

    def advance(self, part: Slice) -> None:
        """Each state follows from the one before; a wrong one is wrong for good."""
        sequence = part.sequence
        if part.start == 0:
            assert part.restored_from is None
            state = history([], sequence.cache_salt)
        else:
            before = sequence.state if part.restored_from is None else part.restored_from
            state = self.states[before]
        state = zlib.crc32(bytes(sequence.token_ids[part.start : part.end]), state)
        own = history(sequence.token_ids[: part.end], sequence.cache_salt)
        assert state == own, "somebody else's state"
        self.states[sequence.state] = state
        if part.saved_to is not None:
            assert part.end % self.block_size == 0
            self.states[part.saved_to] = state

    def poison(self, scheduler: Scheduler) -> None:
        """What is in free slots is never read."""
        if isinstance(scheduler._states, RecurrentStates):
            for slot in scheduler._states._slots._free:
                self.states[slot] = POISON


@dataclass(frozen=True)
class Arrival:
    step: int
    prompt: tuple[int, ...]
    length: int
    caller: str
    priority: int
    leaves_after: int | None
    fails_after: int | None
    salt: str
    is_background: bool = False

    def sequence(self) -> Sequence:
        return Sequence(
            list(self.prompt),
            self.caller,
            self.priority,
            self.salt,
            self.length,
            is_background=self.is_background,
        )


BEGINNING = tuple(answer((1, 2), 22))


def _prompt(num_shared: int, own: list[int]) -> tuple[int, ...]:
    """Many prompts begin alike, some of them as an answer."""
    return (*BEGINNING[:num_shared], *own)[:MOST]


TOKENS = st.integers(0, VOCAB - 1)
ARRIVALS = st.lists(
    st.builds(
        Arrival,
        step=st.integers(0, 20),
        prompt=st.builds(_prompt, st.integers(0, 24), st.lists(TOKENS, min_size=1, max_size=24)),
        length=st.integers(1, 16),
        caller=st.sampled_from("abc"),
        priority=st.integers(1, 4),
        leaves_after=st.none() | st.integers(0, 15),
        fails_after=st.none() | st.none() | st.integers(0, 15),
        salt=st.sampled_from(["", "", "own"]),
        is_background=st.booleans(),
    ),
    min_size=1,
    max_size=14,
)
NUM_STATES = st.none() | st.integers(1, 4) | st.integers(5, 20)
ALLOWANCES = st.just(NOTHING) | st.builds(Allowance, st.integers(0, 6), st.integers(0, 12))


@settings(deadline=None, max_examples=150)
@given(
    arrivals=ARRIVALS,
    block_size=st.sampled_from([1, 2, 4]),
    spare=st.integers(0, 12) | st.integers(20, 60),
    budget=st.integers(6, 30),
    prefill=st.none() | st.integers(1, 20),
    allowance=ALLOWANCES,
    num_states=NUM_STATES,
    is_caching=st.booleans(),
    pins=st.booleans(),
)
def test_whatever_comes_and_goes(
    arrivals: list[Arrival],
    block_size: int,
    spare: int,
    budget: int,
    prefill: int | None,
    allowance: Allowance,
    num_states: int | None,
    is_caching: bool,
    pins: bool,
) -> None:
    longest = max(len(a.prompt) + a.length for a in arrivals)
    scheduler = Scheduler(
        num_blocks=-(-longest // block_size) + spare,
        block_size=block_size,
        max_tokens_per_step=budget,
        max_sequences=6,
        num_states=num_states,
        is_caching=is_caching,
    )
    model = Model(block_size)
    alive: dict[Sequence, Arrival] = {}
    done: list[tuple[Arrival, list[int]]] = []
    coming = sorted(arrivals, key=lambda a: a.step)
    work = sum(len(a.prompt) + a.length for a in arrivals)
    for step in range(20 + 40 * work):
        while coming and coming[0].step <= step:
            a = coming.pop(0)
            sequence = a.sequence()
            scheduler.add(sequence)
            alive[sequence] = a
        is_mixed = len({a.is_background for a in alive.values()}) == 2
        plan = scheduler.plan(prefill, allowance)
        scheduler.check()
        _check_plan(plan, budget)
        if is_mixed:
            _check_allowed(plan, allowance)
        model.poison(scheduler)
        broken = [s for s, a in alive.items() if a.fails_after == step - a.step]
        for sequence in broken:  # its slice was not computed
            scheduler.remove(sequence)
            del alive[sequence]
        plan = StepPlan(tuple(p for p in plan.slices if p.sequence not in broken))
        scheduler.check()
        model.poison(scheduler)
        next_ids = model.run(plan)
        gone = [s for s, a in alive.items() if a.leaves_after == step - a.step]
        for sequence in gone[:1]:  # between plan and commit, as a cancel may come
            scheduler.remove(sequence)
            del alive[sequence]
        scheduler.commit(plan, next_ids)
        for sequence in gone[1:]:
            scheduler.remove(sequence)
            scheduler.remove(sequence)
            del alive[sequence]
        over = [s for s, a in alive.items() if s.num_tokens - len(a.prompt) >= a.length]
        for sequence in over:
            a = alive.pop(sequence)
            if pins:
                scheduler.pin(a.prompt)
            done.append((a, sequence.token_ids[len(a.prompt) :]))
            scheduler.remove(sequence)
        scheduler.check()
        if not alive and not coming:
            break
        assert plan.slices or broken or not alive or coming, "work, and nothing planned"
    assert not alive, "a request was lost, or starved"
    for a, tokens in done:
        assert tokens == answer(a.prompt, a.length)
    assert scheduler.is_idle
    stats = scheduler.stats()
    assert stats.blocks_used <= (stats.blocks_total // 2 if pins else 0)
    assert stats.states.used == 0
    assert stats.states.checkpoints <= (num_states or 0)


def _check_plan(plan: StepPlan, budget: int) -> None:
    assert plan.num_tokens <= budget
    lengths = [part.length for part in plan.slices]
    assert all(length > 0 for length in lengths)
    assert lengths[: lengths.count(1)] == [1] * lengths.count(1), "decode comes first"
    assert len({part.sequence for part in plan.slices}) == len(plan.slices)
    assert all(part.sequence.blocks for part in plan.slices), "a preempted one is in the plan"


def _check_allowed(plan: StepPlan, allowance: Allowance) -> None:
    background = [part for part in plan.slices if part.sequence.is_background]
    prompts = [p for p in background if p.end < p.sequence.num_tokens or p.length > 1]
    assert sum(part.length for part in prompts) <= allowance.tokens
    # A prompt's last token may come alone, and looks like a row.
    most = allowance.rows + allowance.tokens
    assert sum(part.length for part in background) <= most


@settings(deadline=None, max_examples=150)
@given(
    arrivals=ARRIVALS,
    block_size=st.sampled_from([1, 2, 4]),
    spare=st.integers(0, 12) | st.integers(20, 60),
    budget=st.integers(6, 30),
    num_states=NUM_STATES,
    allowance=ALLOWANCES,
)
def test_others_are_served_as_if_there_were_no_background_work(
    arrivals: list[Arrival],
    block_size: int,
    spare: int,
    budget: int,
    num_states: int | None,
    allowance: Allowance,
) -> None:
    longest = max(len(a.prompt) + a.length for a in arrivals)
    steps = sum(20 + 2 * (len(a.prompt) + a.length) for a in arrivals)

    def served(coming: list[Arrival]) -> list[list[tuple[Arrival, int, int]]]:
        scheduler = Scheduler(
            num_blocks=-(-longest // block_size) + spare,
            block_size=block_size,
            max_tokens_per_step=budget,
            max_sequences=3,
            num_states=num_states,
            is_caching=False,
        )
        model = Model(block_size)
        alive: dict[Sequence, Arrival] = {}
        seen = []
        for step in range(steps):
            for a in coming:
                if a.step == step:
                    alive[sequence := a.sequence()] = a
                    scheduler.add(sequence)
            plan = scheduler.plan(None, allowance)
            scheduler.commit(plan, model.run(plan))
            scheduler.check()
            seen.append(
                [
                    (alive[part.sequence], part.start, part.length)
                    for part in plan.slices
                    if not part.sequence.is_background
                ]
            )
            for sequence in [s for s, a in alive.items() if len(s.token_ids) >= _whole(a)]:
                scheduler.remove(sequence)
                del alive[sequence]
        assert not any(not a.is_background for a in alive.values())
        return seen

    assert served(arrivals) == served([a for a in arrivals if not a.is_background])


def _whole(a: Arrival) -> int:
    return len(a.prompt) + a.length


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(TOKENS, min_size=1, max_size=20), min_size=1, max_size=8), NUM_STATES)
def test_caching_changes_no_answer(prompts: list[list[int]], num_states: int | None) -> None:
    answers = []
    for is_caching in (True, False):
        scheduler = Scheduler(
            num_blocks=16,
            block_size=2,
            max_tokens_per_step=8,
            max_sequences=4,
            num_states=num_states,
            is_caching=is_caching,
        )
        model = Model(2)
        sequences = [Sequence(list(prompt)) for prompt in prompts]
        for sequence in sequences:
            scheduler.add(sequence)
        for _ in range(3000):
            plan = scheduler.plan()
            scheduler.commit(plan, model.run(plan))
            for sequence, prompt in zip(sequences, prompts, strict=True):
                if sequence.num_tokens - len(prompt) >= 8:
                    scheduler.remove(sequence)
            if scheduler.is_idle:
                break
        answers.append(
            [s.token_ids[: len(prompt) + 8] for s, prompt in zip(sequences, prompts, strict=True)]
        )
    assert answers[0] == answers[1]
    assert answers[0] == [prompt + answer(prompt, 8) for prompt in prompts]
