"""Adapters come and go: broken ones, full engines, bases that go meanwhile; then the happy path."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bounded import run
from fake_engine import AdaptingEngine, FakeEngine

from llmserve.domain import AdapterSpec, ModelSpec
from llmserve.errors import (
    ConfigurationError,
    InvalidRequest,
    LLMServeError,
    ModelBroken,
    ModelLoading,
    ModelUnloaded,
    NotReady,
    OutOfMemory,
)
from llmserve.registry.adapter_loader import AdapterLoader
from llmserve.registry.load_policy import LoadPolicy
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.registry.served_adapter import ServedAdapter


def fetched(spec: AdapterSpec) -> Path:
    if spec.path is None:
        raise ConfigurationError(f"the hub has no {spec.hub_id}")
    return spec.path


def nobody_is_cut(adapter: ServedAdapter, error: LLMServeError) -> None:
    raise AssertionError(f"{adapter.name} was cut short: {error}")


@dataclass
class Shelf:
    """A base with adapters a, b, …, of which so many are loaded at once."""

    registry: Registry
    loader: Loader
    engines: list[AdaptingEngine] = field(default_factory=list)

    @property
    def model(self) -> ServedModel:
        return self.registry.find("base")

    @property
    def engine(self) -> AdaptingEngine:
        return self.engines[-1]

    def adapter(self, name: str) -> ServedAdapter:
        return self.model.adapters[name]

    @property
    def loaded(self) -> list[str]:
        names = [a.spec.name for a in self.model.adapters.values() if a.info is not None]
        assert set(names) == set(self.engine.loaded)
        return names

    async def acquire(self, name: str, timeout: float = 30.0) -> ServedAdapter:
        adapter = self.adapter(name)
        await self.loader.adapters.acquire(self.model, adapter, timeout)
        return adapter

    async def unload(self, name: str) -> None:
        await self.loader.adapters.unload(self.model, self.adapter(name), nobody_is_cut)


@contextlib.asynccontextmanager
async def shelf(
    names: str = "abc",
    *,
    most: int = 2,
    patience: float = 30.0,
    pinned: Sequence[str] = (),
    initial: str = "",
    on_demand: bool = False,
    problems: Mapping[str, str] | None = None,
) -> AsyncIterator[Shelf]:
    specs = [AdapterSpec(n, path=Path("/x") / n, is_initial=n in initial) for n in names]
    base = ModelSpec("base", aliases=("nick",), adapters=tuple(specs))
    registry = Registry(
        [] if on_demand else [base], on_demand=[base] if on_demand else [], pinned=pinned
    )
    told = problems or {}
    adapters = AdapterLoader(
        registry,
        fetched,
        inspect=lambda spec: told.get(spec.name),
        most=most,
        unload_seconds=patience,
    )
    engines: list[AdaptingEngine] = []

    def build(spec: ModelSpec) -> AdaptingEngine:
        engines.append(AdaptingEngine())
        return engines[-1]

    loader = Loader(registry, build, policy=LoadPolicy(unload_seconds=patience), adapters=adapters)
    made = Shelf(registry, loader, engines)
    loader.start()
    await loader.loaded()
    yield made
    await loader.close()
    for model in registry.models:
        assert all(adapter.info is None for adapter in model.adapters.values())
        assert not any(adapter.open_leases for adapter in model.adapters.values())


async def begun(engine: AdaptingEngine, name: str) -> None:
    async with asyncio.timeout(10):
        while name not in engine.began:
            await asyncio.sleep(0)


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
