"""The step loop over letters that follow from a state: whatever is preempted, found, cancelled or
fails, each answer is the one that the prompt has alone."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field

import pytest
from bounded import run
from engines.batching.letters_machine import POISON, Machine, NextLetter, events

from llmserve.domain import Cancelled, Delta, Failed, Finish, PromptLogprobs
from llmserve.engines.batching.sampled_token import SampledToken
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.recurrent_states import RecurrentStates
from llmserve.engines.batching.step_result import StepResult
from llmserve.engines.job import Job

FRESH = 0


def follow(state: int, token_ids: list[int]) -> int:
    for token_id in token_ids:
        state = zlib.crc32(token_id.to_bytes(2, "little"), state)
    return state


def letter(state: int) -> int:
    return 10 + state % 10


def answer(prompt: tuple[int, ...], length: int) -> list[int]:
    token_ids = list(prompt)
    while len(token_ids) < len(prompt) + length:
        token_ids.append(letter(follow(FRESH, token_ids)))
    return token_ids[len(prompt) :]


@dataclass
class RecurrentLetter(NextLetter):
    """The next letter follows from the state in a sequence's slot and from nothing else. What is
    free is poisoned, and so is what a step was given and did not compute."""

    slots: dict[int, int] = field(default_factory=dict)
    machine: Machine | None = None

    def compute(self, plan: StepPlan, rows: list[None]) -> StepResult:
        self._poison()
        states = [follow(self._before(part), _tokens(part)) for part in plan.slices]
        result = super().compute(plan, rows)
        for part, state in zip(plan.slices, states, strict=True):
            self.slots[part.sequence.state] = state
            if part.saved_to is not None:
                self.slots[part.saved_to] = state
        sampled = zip(plan.slices, states, strict=True)
        tokens = [SampledToken(letter(state)) for part, state in sampled if part.is_sampled]
        return StepResult(tokens, result.scores)

    def _before(self, part: Slice) -> int:
        if part.start == 0:
            return FRESH
        slot = part.sequence.state if part.restored_from is None else part.restored_from
        return self.slots[slot]

    def _poison(self) -> None:
        assert self.machine is not None
        states = self.machine.scheduler._states
        assert isinstance(states, RecurrentStates)
        for slot in states._slots._free:
            self.slots[slot] = POISON


def _tokens(part: Slice) -> list[int]:
    return part.sequence.token_ids[part.start : part.end]


def machine_with(
    *, states: int, num_blocks: int = 64, tokens: int = 64, scored: int | None = None, most: int = 9
) -> Machine:
    computation = RecurrentLetter(most=most, seconds=0.001)
    machine = Machine(
        computation, num_blocks=num_blocks, tokens=tokens, scored=scored, states=states
    )
    computation.machine = machine
    return machine


async def answered(job: Job) -> list[int]:
    deltas = [event for event in await events(job) if isinstance(event, Delta)]
    return [token_id for delta in deltas for token_id in delta.token_ids]


async def idle(machine: Machine) -> None:
    for _ in range(20_000):
        await machine.turns(1)
        if machine.scheduler.is_idle:
            return
    raise AssertionError("the loop does not come to an end")


def test_a_step_that_is_tried_again_in_halves_goes_on_from_the_same_states() -> None:
    async def test() -> None:
        machine = machine_with(states=12, num_blocks=128, most=1)
        prompts = [tuple(range(n, n + 35)) for n in range(4)] * 2
        jobs = []
        for prompt in prompts:
            jobs.append(machine.submit(prompt, max_tokens=20))
            await machine.turns(2)
        await idle(machine)
        for prompt, job in zip(prompts, jobs, strict=True):
            assert await answered(job) == answer(prompt, 20)
        assert machine.scheduler.stats().states.hits == 4
        await machine.check_whole(*jobs)

    run(test)


def test_one_that_breaks_the_step_leaves_the_others_their_states() -> None:
    async def test() -> None:
        machine = machine_with(states=6)
        prompt = tuple(range(35))
        good = [machine.submit(prompt, max_tokens=9)]
        await machine.turns(3)
        bad = machine.submit((*prompt[:33], POISON, 1))
        good.append(machine.submit(prompt, max_tokens=9))
        await idle(machine)
        assert isinstance(bad.mailbox.terminal, Failed)
        for job in good:
            assert await answered(job) == answer(prompt, 9)
        await machine.check_whole(*good, bad)

    run(test)


def test_a_scored_prompt_is_told_in_full_and_begins_where_a_state_was_kept() -> None:
    async def test() -> None:
        machine = machine_with(states=6, scored=16)
        prompt = tuple(range(67))
        for cached in (0, 48):  # the 64th token's score comes from the 63rd
            job = machine.submit(prompt, max_tokens=1, prompt_logprobs=0)
            await idle(machine)
            told = await events(job)
            pieces = [event for event in told if isinstance(event, PromptLogprobs)]
            scores = [-one.logprob for piece in pieces for one in piece.tokens]
            assert scores == list(range(1, 67))
            assert isinstance(told[-1], Finish)
            assert told[-1].usage.cached_tokens == cached
        assert machine.scheduler.stats().states.hits == 1

    run(test)


@pytest.mark.parametrize("seed", range(6))
def test_hundreds_of_requests_leave_every_slot_free(seed: int) -> None:
    numbers = random.Random(seed)
    beginnings = [tuple(numbers.randrange(10) for _ in range(70)) for _ in range(3)]

    async def test() -> None:
        machine = machine_with(
            states=numbers.choice((1, 3, 8, 30)),
            num_blocks=numbers.choice((40, 90, 300)),
            tokens=numbers.choice((16, 40)),
            most=numbers.choice((2, 9)),
        )
        jobs, alive = [], []
        for number in range(150):
            own = [numbers.randrange(10) for _ in range(numbers.randrange(1, 30))]
            if number % 29 == 28:
                own.append(POISON)
            prompt = (*numbers.choice(beginnings)[: numbers.randrange(71)], *own)
            job = machine.submit(
                prompt, max_tokens=numbers.randrange(50), is_background=numbers.random() < 0.2
            )
            jobs.append(job)
            alive.append(job)
            await machine.turns(numbers.randrange(6))
            if numbers.random() < 0.2:
                alive.pop(numbers.randrange(len(alive))).cancel()
        await idle(machine)
        ends = [type(job.mailbox.terminal) for job in jobs]
        assert {Finish, Failed, Cancelled} == set(ends)
        for job in jobs:
            if isinstance(job.mailbox.terminal, Finish):
                task = job.token_task
                assert await answered(job) == answer(task.prompt_ids, task.max_tokens)
        await machine.check_whole(*jobs)

    run(test)
