"""Pinned prefixes: bounds and matches; then the same tokens with and without, model by model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bounded import run
from make_model import make_model

from llmserve.domain import (
    Delta,
    Failed,
    Finish,
    Message,
    ModelSpec,
    Prompt,
    SamplingParams,
    Started,
)
from llmserve.engines.job import Job, Task
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.prefixes import Pinned, PinnedPrefixes, common_beginning
from llmserve.engines.threaded import ThreadedEngine

TEXT = "The quick brown fox jumps over the lazy dog. " * 6
PRESETS = ("tiny-llama", "tiny-mistral", "tiny-gemma2", "tiny-gpt2", "tiny-gpt-oss")


def pinned(*token_ids: int, num_bytes: int = 1) -> Pinned:
    return Pinned(token_ids, None, num_bytes)


def test_a_prompt_must_go_on_after_the_prefix() -> None:
    assert pinned(1, 2).begins([1, 2, 3])
    assert not pinned(1, 2).begins([1, 2])
    assert not pinned(1, 2).begins([1])
    assert not pinned(1, 2).begins([2, 2, 3])


def test_the_longest_match_wins_and_the_least_recently_used_goes() -> None:
    prefixes = PinnedPrefixes(max_prefixes=2)
    assert prefixes.longest_match([1, 2, 3]) is None
    prefixes.add(pinned(1))
    prefixes.add(pinned(1, 2, num_bytes=5))
    best = prefixes.longest_match([1, 2, 3])
    assert best is not None
    assert best.token_ids == (1, 2)
    assert prefixes.longest_match([1, 3]) == pinned(1)
    prefixes.add(pinned(9))
    assert prefixes.longest_match([1, 2, 3]) == pinned(1)
    assert prefixes.num_bytes == 2
    prefixes.clear()
    assert prefixes.num_bytes == 0


def test_what_prompts_begin_with() -> None:
    assert common_beginning([[1, 2, 3], [1, 2, 4, 5], [1, 2]]) == (1, 2)
    assert common_beginning([[1], [2]]) == ()


def engine_for(folder: Path) -> ThreadedEngine:
    return ThreadedEngine(
        ModelSpec("m", path=folder),
        why="a test",
        max_running=2,
        torch_threads=1,
        fetch=lambda spec, progress: folder,
    )


async def answer(engine: ThreadedEngine, prompt: Prompt) -> tuple[list[int], int]:
    """The greedy tokens, and how many of the prompt's came from a pinned prefix."""
    mailbox = Mailbox(asyncio.get_running_loop())
    task = Task(
        request_id="r",
        prompt_ids=tuple(engine.tokenizer.encode(prompt)),
        sampling=SamplingParams(temperature=0.0, ignore_eos=True, repetition_penalty=1.1),
        max_tokens=12,
    )
    job = Job(task, mailbox, on_done=lambda: None)
    engine.start(job)
    tokens: list[int] = []
    cached = -1
    while True:
        match await mailbox.next():
            case Started(_, cached_tokens):
                cached = cached_tokens
            case Delta(_, token_ids):
                tokens.extend(token_ids)
            case Finish(_, usage):
                assert usage.cached_tokens == cached
                return tokens, cached
            case Failed(error, _):
                raise error


@pytest.mark.parametrize("preset", PRESETS)
def test_an_answer_is_the_same_with_a_pinned_prefix(
    preset: str, tmp_path: Path, no_thread_left: None
) -> None:
    make_model(preset, tmp_path / "m")

    async def test() -> None:
        engine = engine_for(tmp_path / "m")
        await engine.load(lambda progress: None)
        prompts = [TEXT + ending for ending in ("And then", "9", "\n\n", "Zebra")]
        plain = [await answer(engine, prompt) for prompt in prompts]
        assert [cached for _, cached in plain] == [0, 0, 0, 0]
        report = await engine.warm([], [TEXT])
        assert report.prefix_problems == (None,)
        assert report.prefix_tokens[0] > 20
        pinned = [await answer(engine, prompt) for prompt in prompts]
        again = [await answer(engine, prompt) for prompt in prompts]
        assert pinned == again, "a cache that is used is not written to"
        assert [tokens for tokens, _ in pinned] == [tokens for tokens, _ in plain]
        assert [cached for _, cached in pinned] == [report.prefix_tokens[0]] * 4
        await engine.close()

    run(test)


def test_a_system_prompt_is_pinned_as_its_template_writes_it(
    tiny_model: Path, no_thread_left: None
) -> None:
    async def test() -> None:
        engine = engine_for(tiny_model)
        await engine.load(lambda progress: None)
        system = Message("system", "You are a helpful assistant who knows everything.")
        prompt = (system, Message("user", "Hello there!"))
        plain, _ = await answer(engine, prompt)
        report = await engine.warm(["Hello"], [(system,)])
        assert len(report.prompt_seconds) == 1
        tokens, cached = await answer(engine, prompt)
        assert (tokens, cached) == (plain, report.prefix_tokens[0])
        assert cached > 10
        await engine.close()

    run(test)


def test_a_prefix_that_cannot_be_kept_is_told_and_the_engine_serves_on(
    tiny_model: Path, no_thread_left: None
) -> None:
    async def test() -> None:
        engine = engine_for(tiny_model)
        await engine.load(lambda progress: None)
        report = await engine.warm([], ["word " * 5000, TEXT])
        assert report.prefix_tokens[0] == 0
        assert "more than the context" in str(report.prefix_problems[0])
        assert report.prefix_problems[1] is None
        tokens, _ = await answer(engine, TEXT + "Yes")
        assert len(tokens) == 12
        await engine.close()

    run(test)
