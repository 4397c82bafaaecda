"""Log probabilities of prompts: both engines give what transformers gives, in pieces, once each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from bounded import run
from engines.batching.asked import Asked, engine_of, tokenizer_of
from transformers import AutoModelForCausalLM

from llmserve.domain import (
    Cancelled,
    Delta,
    EngineKind,
    Event,
    Finish,
    FinishReason,
    PromptLogprobs,
    Started,
    TokenLogprobs,
)
from llmserve.engines.batching import engine as batching
from llmserve.engines.step_report import StepReport
from llmserve.engines.threaded import engine as threaded

pytestmark = pytest.mark.usefixtures("no_thread_left")

KINDS = (EngineKind.BATCHING, EngineKind.THREADED)
PROMPT = tuple(range(300, 375))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> EngineKind:
    return EngineKind(request.param)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven prompt tokens are scored at a time."""
    monkeypatch.setattr(batching, "most_scored", lambda vocab, is_on_gpu: 7)
    monkeypatch.setattr(threaded, "LOGIT_BYTES", 7 * 4 * 1600)


def pieces(events: Sequence[Event]) -> list[PromptLogprobs]:
    return [event for event in events if isinstance(event, PromptLogprobs)]


def told(events: Sequence[Event]) -> list[TokenLogprobs]:
    return [one for piece in pieces(events) for one in piece.tokens]


def texts_of(events: Sequence[Event]) -> list[int]:
    return [i for event in events if isinstance(event, Delta) for i in event.token_ids]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def check(model: torch.nn.Module, prompt: Sequence[int], told: list[TokenLogprobs], k: int) -> None:
    """By transformers alone."""
    with torch.inference_mode():
        logits = model(torch.tensor([list(prompt)])).logits[0, :-1].float()
    rows = logits.log_softmax(-1)
    assert [one.token_id for one in told] == list(prompt[1:])
    for row, one in zip(rows, told, strict=True):
        own = float(row[one.token_id])
        assert one.logprob == pytest.approx(own, abs=1e-4)
        assert one.rank is not None
        assert abs(one.rank - 1 - int((row > own).sum())) <= 2, "equal up to rounding"
        assert len(one.top) == k
        assert [v for _, v in one.top] == pytest.approx(row.topk(k).values.tolist(), abs=1e-4)
        assert [v for _, v in one.top] == pytest.approx(
            [float(row[i]) for i, _ in one.top], abs=1e-4
        )


def test_a_cancelled_prompt_is_not_scored_to_its_end(
    tiny_model: Path, kind: EngineKind, few_rows: None
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            asked = Asked(engine, PROMPT * 8, 1, prompt_logprobs=0)
            while not isinstance(await asked.job.mailbox.next(), PromptLogprobs):
                pass
            asked.job.cancel()
            events = await asked.events()
            assert isinstance(events[-1], Cancelled)
            assert len(told(events)) < len(PROMPT) * 8 - 8

    run(test)


def test_nothing_comes_before_a_single_token(tiny_model: Path, kind: EngineKind) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            for max_tokens in (0, 2):
                events = await Asked(engine, (5,), max_tokens, prompt_logprobs=2).events()
                assert told(events) == []
                last = events[-1]
                assert isinstance(last, Finish)
                assert last.usage.completion_tokens == max_tokens

    run(test)


def test_they_are_what_transformers_gives_and_come_before_the_answer(
    tiny_model: Path, kind: EngineKind, model: torch.nn.Module
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            expected = await Asked(engine, PROMPT, 5).tokens()
            events = await Asked(engine, PROMPT, 5, prompt_logprobs=3).events()
            kinds = [type(event) for event in events]
            assert kinds[0] is Started
            assert kinds.index(Delta) > max(i for i, k in enumerate(kinds) if k is PromptLogprobs)
            check(model, PROMPT, told(events), 3)
            assert texts_of(events) == expected, "asking changes no token"

    run(test)


def test_many_pieces_say_the_same(
    tiny_model: Path, kind: EngineKind, model: torch.nn.Module, few_rows: None
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            events = await Asked(engine, PROMPT, 1, prompt_logprobs=2).events()
            assert len(pieces(events)) >= 11
            assert all(len(piece.tokens) <= 7 for piece in pieces(events))
            check(model, PROMPT, told(events), 2)

    run(test)


def test_a_prompt_may_fill_the_context_if_nothing_is_generated(
    tiny_model: Path, kind: EngineKind, model: torch.nn.Module
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            prompt = tuple(5 + i % 900 for i in range(engine.info.max_context))
            events = await Asked(engine, prompt, 0, prompt_logprobs=0).events()
            check(model, prompt, told(events), 0)
            last = events[-1]
            assert isinstance(last, Finish)
            assert (last.reason, last.usage.completion_tokens) == (FinishReason.LENGTH, 0)
            assert texts_of(events) == []

    run(test)


def test_the_end_token_has_its_entry_beside_a_scored_prompt(
    tiny_model: Path, kind: EngineKind
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            eos = tokenizer_of(tiny_model).hf.eos_token_id
            asked = Asked(
                engine,
                PROMPT,
                5,
                prompt_logprobs=0,
                logprobs=1,
                ignore_eos=False,
                logit_bias=((eos, 100.0),),
            )
            deltas = [event for event in await asked.events() if isinstance(event, Delta)]
            assert [(d.text, [one.token_id for one in d.logprobs]) for d in deltas] == [("", [eos])]

    run(test)


def test_scored_and_plain_prompts_share_steps(
    tiny_model: Path, kind: EngineKind, model: torch.nn.Module, few_rows: None
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            prompts = [tuple(range(10 * n, 13 * n + 20)) for n in range(1, 5)]
            plain = [await Asked(engine, prompt, 6).tokens() for prompt in prompts]
            scored = [
                Asked(engine, prompt, 3, prompt_logprobs=n) for n, prompt in enumerate(prompts)
            ]
            beside = [Asked(engine, prompt, 6) for prompt in prompts]
            events = await asyncio.gather(*(each.events() for each in scored))
            for number, (prompt, each) in enumerate(zip(prompts, events, strict=True)):
                check(model, prompt, told(each), number)
            assert [await each.tokens() for each in beside] == plain

    run(test)


def test_a_second_prompt_that_begins_alike_is_not_scored_again(
    tiny_model: Path, model: torch.nn.Module
) -> None:
    context, salt = PROMPT[:70], "mine"

    async def test() -> None:
        steps: list[StepReport] = []
        async with engine_of(
            tiny_model, on_step=lambda model, report: steps.append(report)
        ) as engine:

            async def asked(prompt: tuple[int, ...], k: int, salt: str = "") -> tuple[int, int]:
                before = len(steps)
                one = Asked(engine, prompt, 0, salt=salt, prompt_logprobs=k)
                check(model, prompt, told(await one.events()), k)
                return one.job.cached_tokens, sum(step.tokens for step in steps[before:])

            assert await asked((*context, 7, 8), 1) == (0, 72)
            # Four blocks of 16 tokens are known; the last position of the fourth is computed.
            assert await asked((*context, 9), 1) == (48, 23)
            assert await asked((*context, 7, 8), 0) == (48, 24)
            assert await asked((*context, 7), 2) == (0, 71), "more of the likeliest are wanted"
            assert await asked((*context, 11), 2) == (48, 23)
            assert await asked((*context, 11), 1, salt) == (0, 71)
            assert await asked((*context, 12), 1, salt) == (48, 23)
            assert await asked(context[:64], 1) == (48, 16), "all of them are known"

    run(test)


def test_a_prompt_that_was_read_but_not_scored_is_computed_again(
    tiny_model: Path, model: torch.nn.Module
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            await Asked(engine, PROMPT, 2).events()
            scored = Asked(engine, PROMPT, 2, prompt_logprobs=1)
            check(model, PROMPT, told(await scored.events()), 1)
            assert scored.job.cached_tokens == 0
            plain = Asked(engine, PROMPT, 2)
            await plain.events()
            assert plain.job.cached_tokens == 64

    run(test)


def test_without_a_prefix_cache_nothing_is_kept(tiny_model: Path, model: torch.nn.Module) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, prefix_caching=False) as engine:
            for _ in range(2):
                scored = Asked(engine, PROMPT, 0, prompt_logprobs=1)
                check(model, PROMPT, told(await scored.events()), 1)
                assert scored.job.cached_tokens == 0

    run(test)


def test_a_preempted_prompt_is_told_once(tiny_model: Path, model: torch.nn.Module) -> None:
    """Four prompts of 80 tokens and answers of 60 in a cache of 24 blocks of 16."""

    async def test() -> None:
        async with engine_of(
            tiny_model, kv_cache_bytes=24 * 16 * 512, max_tokens_per_step=16
        ) as engine:
            prompts = [tuple(range(n, n + 80)) for n in (5, 105, 205, 305)]
            asked = [Asked(engine, prompt, 60, prompt_logprobs=1) for prompt in prompts]
            events = await asyncio.gather(*(each.events() for each in asked))
            assert engine.stats().preemptions > 0
            for prompt, each in zip(prompts, events, strict=True):
                check(model, prompt, told(each), 1)
                assert len(texts_of(each)) == 60

    run(test)
