"""Prompts that are scored, in a loop over letters: what is told, in which steps, and once."""

from __future__ import annotations

import math
import random

import pytest
from bounded import run
from engines.batching.letters_machine import Machine, NextLetter, events
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.domain import Failed, Finish, FinishReason, PromptLogprobs, SamplingParams, Usage
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.batching.schedule.scoring import Scoring
from llmserve.engines.batching.step_result import StepResult
from llmserve.engines.job import Job
from llmserve.engines.task import TokenTask


async def told(job: Job) -> list[float]:
    """The log probabilities of the prompt; token i of a letter machine has -i."""
    pieces = [event for event in await events(job) if isinstance(event, PromptLogprobs)]
    return [-one.logprob for piece in pieces for one in piece.tokens]


class Damaged(NextLetter):
    """Its logits of the prompt's token 5 are not numbers."""

    def compute(self, plan: StepPlan, rows: list[None]) -> StepResult:
        result = super().compute(plan, rows)
        for scores in result.scores:
            for place, logprob in enumerate(scores.logprobs):
                scores.logprobs[place] = math.nan if logprob == -5 else logprob
        return result


def test_logits_that_are_not_numbers_fail_only_the_prompt_that_asked() -> None:
    async def test() -> None:
        machine = Machine(Damaged(), tokens=16, scored=4)
        asked, plain = machine.submit(range(9), prompt_logprobs=0), machine.submit(range(9))
        await machine.turns(20)
        failed = (await events(asked))[-1]
        assert isinstance(failed, Failed)
        assert "not numbers" in failed.error.message
        assert isinstance(plain.mailbox.terminal, Finish)
        await machine.check_whole(asked, plain)

    run(test)


def test_a_step_that_fails_is_tried_again_without_telling_twice() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(most=1))
        jobs = [machine.submit(range(n, n + 9), prompt_logprobs=1) for n in range(3)]
        await machine.turns(10)
        for job in jobs:
            assert await told(job) == list(range(1, 9))
        await machine.check_whole(*jobs)

    run(test)


def test_nothing_is_generated_if_nothing_is_wanted() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(), num_blocks=2)
        job = machine.submit(range(8), max_tokens=0, prompt_logprobs=0)
        await machine.turns(1)
        assert job.mailbox.terminal == Finish(FinishReason.LENGTH, Usage(8, 0))
        assert await told(job) == list(range(1, 8))
        await machine.check_whole(job)

    run(test)


def test_a_long_scored_prompt_leaves_the_streams_their_tokens() -> None:
    async def test() -> None:
        machine = Machine(NextLetter(), scored=3)
        stream = machine.submit(max_tokens=30)
        await machine.turns(2)
        scored = machine.submit(range(40), max_tokens=1, prompt_logprobs=0)
        later = machine.submit(range(50, 60), max_tokens=1)
        for _ in range(12):
            before = stream.completion_tokens
            await machine.turns(1)
            assert stream.completion_tokens == before + 1
            rows = [len(piece.scored) for piece in machine.computation.plans[-1].slices]
            assert sum(rows) <= 3
            assert later.completion_tokens == 0, "only one prompt is ever partly computed"
        await machine.turns(20)
        assert await told(scored) == list(range(1, 40))
        await machine.check_whole(stream, scored, later)

    run(test)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), scored=st.integers(1, 9), num_blocks=st.integers(12, 20))
def test_every_token_is_told_once_whatever_is_preempted_and_found(
    seed: int, scored: int, num_blocks: int
) -> None:
    numbers = random.Random(seed)

    async def test() -> None:
        machine = Machine(NextLetter(), num_blocks=num_blocks, tokens=16, scored=scored)
        jobs = []
        for _ in range(12):
            prompt = [9 if numbers.random() < 0.1 else 8 for _ in range(numbers.randrange(1, 25))]
            jobs.append(
                machine.submit(
                    prompt,
                    max_tokens=numbers.randrange(20),
                    prompt_logprobs=numbers.choice((None, 0, 1)),
                )
            )
            await machine.turns(numbers.randrange(4))
        for _ in range(400):
            if not machine.scheduler.is_idle:
                await machine.turns(1)
        for job in jobs:
            wanted = job.task.sampling.prompt_logprobs is not None
            count = len(job.token_task.prompt_ids)
            assert await told(job) == (list(range(1, count)) if wanted else [])
            assert isinstance(job.mailbox.terminal, Finish)
            assert job.completion_tokens == job.task.max_tokens
        await machine.check_whole(*jobs)

    run(test)


@pytest.mark.parametrize(("k", "expected"), [(None, None), (0, 0), (3, 3)])
def test_only_a_task_that_asks_is_scored(k: int | None, expected: int | None) -> None:
    sampling = SamplingParams(prompt_logprobs=k)
    scoring = Scoring.of(
        TokenTask(request_id="id", prompt_ids=(1, 2, 3), sampling=sampling, max_tokens=1)
    )
    assert (scoring.num_top if scoring is not None else None) == expected
