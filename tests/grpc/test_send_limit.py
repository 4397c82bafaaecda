"""Who takes nothing is not waited for; who takes slowly is."""

from __future__ import annotations

import asyncio

import pytest
from bounded import run

from llmserve.grpc.send_limit import SendLimit


async def stuck() -> None:
    async with SendLimit(0.02) as limit:
        await limit.send(asyncio.sleep(0))
        await limit.send(asyncio.sleep(60))


def test_a_message_that_is_not_taken_ends_the_stream() -> None:
    async def test() -> None:
        with pytest.raises(TimeoutError):
            await stuck()

    run(test)


def test_silence_between_messages_does_not_count() -> None:
    async def test() -> None:
        async with SendLimit(0.02) as limit:
            for _ in range(3):
                await asyncio.sleep(0.04)
                await limit.send(asyncio.sleep(0))

    run(test)


def test_an_error_inside_stays_what_it_is() -> None:
    async def test() -> None:
        with pytest.raises(KeyError):
            async with SendLimit(0.02):
                raise KeyError

    run(test)
