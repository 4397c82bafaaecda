"""Adapters come and go: broken ones, full engines, bases that go meanwhile; then the happy path."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bounded import run
from fake_engine import FakeEngine
from registry.adapter_shelf import begun, nobody_is_cut, shelf

from llmserve.domain import AdapterSpec, ModelSpec
from llmserve.errors import (
    InvalidRequest,
    ModelBroken,
    ModelLoading,
    ModelUnloaded,
    OutOfMemory,
)
from llmserve.registry.served import ModelStatus


def test_a_broken_adapter_says_why_until_it_is_loaded_again_and_breaks_nothing_else() -> None:
    async def test() -> None:
        async with shelf() as s:
            s.engine.load_errors["a"] = InvalidRequest("adapter 'a' cannot be served: its rank")
            for _ in range(2):
                with pytest.raises(ModelBroken, match=r"'base:a': .*its rank"):
                    await s.acquire("a")
            assert s.engine.began == ["a"]
            assert s.model.status is ModelStatus.READY
            await s.acquire("b")
            assert s.loaded == ["b"]
            await s.unload("a")
            assert s.adapter("a").error is None

    run(test)


def test_a_bug_while_loading_is_the_adapters_own_error() -> None:
    async def test() -> None:
        async with shelf() as s:

            async def buggy(spec: AdapterSpec, folder: Path) -> None:
                raise ZeroDivisionError("a detail")

            s.engine.load_adapter = buggy  # type: ignore[assignment]
            with pytest.raises(ModelBroken, match="ZeroDivisionError; see the log"):
                await s.acquire("a")

    run(test)


def test_an_adapter_that_cannot_be_downloaded_is_broken() -> None:
    async def test() -> None:
        async with shelf() as s:
            s.registry.add_adapter(s.model, AdapterSpec("far", hub_id="org/far"))
            with pytest.raises(ModelBroken, match="the hub has no org/far"):
                await s.acquire("far")

    run(test)


def test_what_passes_leaves_an_adapter_to_be_tried_again() -> None:
    async def test() -> None:
        async with shelf() as s:
            s.engine.load_errors["a"] = OutOfMemory("no room on the device")
            with pytest.raises(OutOfMemory):
                await s.acquire("a")
            del s.engine.load_errors["a"]
            assert (await s.acquire("a")).status is ModelStatus.READY

    run(test)


def test_what_a_folder_tells_is_known_before_anybody_asks() -> None:
    async def test() -> None:
        async with shelf(problems={"b": "its peft_type is 'IA3'"}) as s:
            assert s.model.warnings == (
                "base:b: adapter 'b' cannot be served: its peft_type is 'IA3'",
            )
            with pytest.raises(ModelBroken, match="IA3"):
                await s.acquire("b")
            assert s.engine.began == []
            await s.acquire("a")

    run(test)


def test_a_base_that_takes_no_adapters_says_so() -> None:
    async def test() -> None:
        async with shelf() as s:
            s.model.engine = FakeEngine()
            with pytest.raises(ModelBroken, match="'base:a': "):
                await s.acquire("a")

    run(test)


def test_a_requests_deadline_ends_its_wait_and_not_the_load() -> None:
    async def test() -> None:
        async with shelf() as s:
            s.engine.may_load["a"] = asyncio.Event()
            with pytest.raises(ModelLoading, match="'base:a' is still loading"):
                await s.acquire("a", 0.01)
            s.engine.may_load["a"].set()
            await s.acquire("a")
            assert s.engine.began == ["a"]

    run(test)


def test_one_load_is_for_all_who_wait_and_a_cancel_is_for_one() -> None:
    async def test() -> None:
        async with shelf() as s:
            s.engine.may_load["a"] = asyncio.Event()
            waiting = [asyncio.create_task(s.acquire("a")) for _ in range(3)]
            await begun(s.engine, "a")
            waiting[0].cancel()
            s.engine.may_load["a"].set()
            first, *others = await asyncio.gather(*waiting, return_exceptions=True)
            assert isinstance(first, asyncio.CancelledError)
            assert others == [s.adapter("a")] * 2
            assert s.engine.began == ["a"]

    run(test)


def test_what_an_operator_unloads_stays_so_though_it_was_about_to_be_loaded() -> None:
    async def test() -> None:
        async with shelf() as s:
            await s.acquire("a")
            await s.unload("a")
            with pytest.raises(ModelUnloaded, match="'base:a' is unloaded"):
                await s.acquire("a")
            s.engine.may_load["b"] = asyncio.Event()
            loading = asyncio.create_task(s.acquire("b"))
            await begun(s.engine, "b")
            unloading = asyncio.create_task(s.unload("b"))
            s.engine.may_load["b"].set()
            await asyncio.gather(loading, unloading, return_exceptions=True)
            assert s.loaded == []

    run(test)


def test_open_streams_end_before_an_unload_or_are_cut_short_at_its_deadline() -> None:
    async def test() -> None:
        async with shelf() as s:
            cut: list[str] = []
            adapter = await s.acquire("a")
            with s.registry.lease(s.model, adapter):
                adapters = s.loader.adapters
                unloading = asyncio.create_task(
                    adapters.unload(s.model, adapter, nobody_is_cut, 60.0)
                )
                async with asyncio.timeout(10):
                    while adapter.status is ModelStatus.READY:
                        await asyncio.sleep(0)
                assert s.loaded == ["a"]
            await unloading
            adapter.is_on_demand = True
            await s.acquire("a")
            with s.registry.lease(s.model, adapter):
                await adapters.unload(
                    s.model, adapter, lambda adapter, error: cut.append(adapter.name), 0.01
                )
            assert cut == ["base:a"]
            assert s.loaded == []

    run(test)


def test_an_unload_goes_on_when_whoever_asked_for_it_has_left() -> None:
    async def test() -> None:
        async with shelf() as s:
            adapter = await s.acquire("a")
            with s.registry.lease(s.model, adapter):
                unloading = asyncio.create_task(s.unload("a"))
                async with asyncio.timeout(10):
                    while adapter.status is ModelStatus.READY:
                        await asyncio.sleep(0)
                unloading.cancel()
                await asyncio.gather(unloading, return_exceptions=True)
                assert adapter.status is ModelStatus.UNLOADING
            async with asyncio.timeout(10):
                while s.loaded:
                    await asyncio.sleep(0)

    run(test)


def test_adapters_go_with_their_base_and_come_again_with_requests() -> None:
    async def test() -> None:
        async with shelf(on_demand=True, initial="b") as s:
            await s.loader.acquire("base", 30.0)
            await s.acquire("a")
            assert s.loaded == ["a", "b"]
            await s.loader.unload(s.model, lambda model, error: None)
            assert s.adapter("a").status is ModelStatus.UNLOADED
            with pytest.raises(ModelUnloaded, match="'base' is unloaded"):
                await s.acquire("a")
            await s.loader.load(s.model)
            assert s.loaded == ["b"]
            await s.acquire("a")

    run(test)


def test_a_base_that_goes_while_an_adapter_loads_leaves_nothing() -> None:
    async def test() -> None:
        async with shelf() as s:
            s.engine.may_load["a"] = asyncio.Event()
            loading = asyncio.create_task(s.acquire("a"))
            await begun(s.engine, "a")
            await s.loader.unload(s.model, lambda model, error: None)
            s.engine.may_load["a"].set()
            with pytest.raises(ModelUnloaded):
                await loading
            assert s.adapter("a").status is ModelStatus.UNLOADED

    run(test)


def test_a_reload_takes_along_what_operators_did() -> None:
    async def test() -> None:
        async with shelf(initial="c") as s:
            await s.acquire("a")
            await s.unload("c")
            s.registry.add_adapter(s.model, AdapterSpec("d", path=Path("/y"))).was_added = True
            fresh = ModelSpec("base", adapters=(s.adapter("a").spec, s.adapter("c").spec))
            new = await s.loader.reload(s.model, fresh, lambda model, error: None)
            assert s.model is new
            assert list(new.adapters) == ["a", "c", "d"]
            assert s.loaded == ["a"]
            with pytest.raises(ModelUnloaded):
                await s.acquire("c")
            await s.acquire("d")

    run(test)


def test_one_that_cannot_be_loaded_at_start_leaves_the_base_ready() -> None:
    async def test() -> None:
        async with shelf("ab", on_demand=True, initial="ab") as s:
            s.registry.add_adapter(s.model, AdapterSpec("a", hub_id="org/a", is_initial=True))
            await s.loader.acquire("base", 30.0)
            assert s.loaded == ["b"]
            assert s.adapter("a").status is ModelStatus.BROKEN

    run(test)
