"""How much of a prompt a task keeps, and how much room it leaves: 20 tokens are the context."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bounded import run
from fake_engine import FakeEngine

from llmserve.domain import Caller, GenerationRequest, Prompt, SamplingFields
from llmserve.domain.request import WHATEVER_FITS
from llmserve.engines.task import TokenTask
from llmserve.errors import PromptTooLong

pytestmark = pytest.mark.usefixtures("no_thread_left")


async def prepared(prompt: Prompt, max_tokens: int | None, **fields: Any) -> TokenTask:
    engine = FakeEngine()
    sampling = SamplingFields(max_tokens=max_tokens)
    request = GenerationRequest("id", prompt, sampling=sampling, **fields)
    deadline = asyncio.get_running_loop().time() + 1000.0
    try:
        [task] = await engine.prepare([request], Caller(), deadline, lambda: lambda: None)
    finally:
        await engine.close()
    return task


@pytest.mark.parametrize(
    ("length", "max_tokens", "most", "kept", "generated"),
    [
        (19, None, None, 19, 1),
        (20, 0, None, 20, 0),
        (5, 0, None, 5, 0),
        (30, 5, 4, 4, 5),
        (30, 50, 4, 4, 16),
        (3, 5, 4, 3, 5),
        (30, 5, WHATEVER_FITS, 15, 5),
        (30, None, WHATEVER_FITS, 19, 1),
        (30, 0, WHATEVER_FITS, 20, 0),
        (30, 50, WHATEVER_FITS, 1, 19),
        (3, 5, WHATEVER_FITS, 3, 5),
    ],
)
@pytest.mark.parametrize("is_text", [True, False])
def test_the_last_tokens_are_kept(
    length: int, max_tokens: int | None, most: int | None, kept: int, generated: int, is_text: bool
) -> None:
    text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"[:length]

    async def test() -> None:
        prompt: Prompt = text if is_text else tuple(range(length))
        task = await prepared(prompt, max_tokens, max_prompt_tokens=most)
        assert (len(task.prompt_ids), task.max_tokens) == (kept, generated)
        if is_text:
            assert "".join(map(chr, task.prompt_ids)) == text[-kept:]

    run(test)


@pytest.mark.parametrize(
    ("length", "max_tokens", "most"), [(21, 0, None), (20, 1, None), (30, 1, 20)]
)
def test_a_prompt_that_leaves_no_room_is_refused(
    length: int, max_tokens: int, most: int | None
) -> None:
    async def test() -> None:
        with pytest.raises(PromptTooLong):
            await prepared("a" * length, max_tokens, max_prompt_tokens=most)

    run(test)
