"""Adapters make room for each other: none is free, one is; then the least recently used."""

from __future__ import annotations

import asyncio

import pytest
from bounded import run
from registry.adapter_shelf import shelf

from llmserve.errors import NotReady
from llmserve.registry.served import ModelStatus


def test_without_a_free_one_a_request_is_told_to_come_again_and_nothing_is_lost() -> None:
    async def test() -> None:
        async with shelf(patience=0.01) as s:
            a, b = await s.acquire("a"), await s.acquire("b")
            with s.registry.lease(s.model, a), s.registry.lease(s.model, b):
                with pytest.raises(NotReady, match="in use") as refused:
                    await s.acquire("c")
                assert refused.value.retry_after_seconds
                assert a.status is b.status is ModelStatus.READY
            await s.acquire("c")

    run(test)


def test_who_asks_for_one_that_is_to_be_evicted_gets_it_if_it_stays_after_all() -> None:
    async def test() -> None:
        async with shelf(most=1, patience=0.2) as s:
            a = await s.acquire("a")
            with s.registry.lease(s.model, a):
                evicting = asyncio.create_task(s.acquire("b"))
                async with asyncio.timeout(10):
                    while a.status is ModelStatus.READY:
                        await asyncio.sleep(0)
                waiting = asyncio.create_task(s.acquire("a"))
                with pytest.raises(NotReady, match="in use"):
                    await evicting
                assert await waiting is a
            assert s.engine.began == ["a"]
            assert s.loaded == ["a"]

    run(test)


def test_what_one_waited_for_is_not_evicted_before_it_is_used() -> None:
    async def test() -> None:
        async with shelf(most=1) as s:
            used: list[str] = []

            async def use(name: str) -> None:
                with s.registry.lease(s.model, await s.acquire(name)):
                    assert s.loaded == [name]
                    used.append(name)
                    await asyncio.sleep(0)

            await asyncio.gather(*(use(name) for name in "abcabc"))
            assert sorted(used) == list("aabbcc")

    run(test)


def test_the_first_one_that_is_free_makes_room_whichever_it_is() -> None:
    async def test() -> None:
        async with shelf() as s:
            a, b = await s.acquire("a"), await s.acquire("b")
            with s.registry.lease(s.model, a):
                with s.registry.lease(s.model, b):
                    waiting = asyncio.create_task(s.acquire("c"))
                    async with asyncio.timeout(10):
                        while a.status is ModelStatus.READY:  # it takes no new requests
                            await asyncio.sleep(0)
                await waiting
                assert s.loaded == ["a", "c"]
                assert a.status is ModelStatus.READY

    run(test)


def test_pinned_ones_stay_and_a_star_pins_all() -> None:
    async def test() -> None:
        async with shelf(most=1, pinned=("nick:a",)) as s:
            await s.acquire("a")
            with pytest.raises(NotReady, match="pinned"):
                await s.acquire("b")
        async with shelf(pinned=("base:*",)) as s:
            assert all(adapter.is_pinned for adapter in s.model.adapters.values())
            assert not s.model.is_pinned

    run(test)


def test_the_least_recently_used_one_makes_room() -> None:
    async def test() -> None:
        async with shelf() as s:
            for name in "aba":
                with s.registry.lease(s.model, await s.acquire(name)):
                    pass
            await s.acquire("c")
            assert s.loaded == ["a", "c"]
            assert s.adapter("b").is_on_demand
            await s.acquire("b")

    run(test)
