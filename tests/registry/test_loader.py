"""The loader: broken models, full memory, open streams at an unload; then the happy path."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from bounded import run
from fake_engine import FakeEngine

from llmserve.domain import LoadProgress, ModelSpec
from llmserve.engines.engine import Engine
from llmserve.errors import LLMServeError, ModelBroken, ModelUnloaded, NotReady
from llmserve.registry.load_policy import LoadPolicy
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel


class StuckEngine(FakeEngine):
    """Loads when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.may_finish = asyncio.Event()

    async def load(self, on_progress) -> None:  # type: ignore[no-untyped-def]
        on_progress(LoadProgress("weights", 0.25))
        await self.may_finish.wait()


@dataclass
class Shelf:
    """A registry of models a, b, …; each engine weighs four bytes."""

    registry: Registry
    loader: Loader
    built: list[FakeEngine]
    cut: list[str]

    def status(self, name: str) -> ModelStatus:
        return self.registry.find(name).status

    def cut_short(self, model: ServedModel, error: LLMServeError) -> None:
        assert isinstance(error, ModelUnloaded)
        self.cut.append(model.spec.name)
        model.open_leases = 0
        model.has_no_leases.set()

    async def unload(self, name: str, timeout: float | None = None) -> None:
        await self.loader.unload(self.registry.find(name), self.cut_short, timeout)


@contextlib.asynccontextmanager
async def shelf(
    names: str = "a",
    *,
    on_demand: str = "",
    pinned: str = "",
    policy: LoadPolicy | None = None,
    engines: Mapping[str, Sequence[FakeEngine]] | None = None,
) -> AsyncIterator[Shelf]:
    prepared = {name: list(some) for name, some in (engines or {}).items()}
    built: list[FakeEngine] = []

    def build(spec: ModelSpec) -> Engine:
        queue = prepared.get(spec.name)
        engine = queue.pop(0) if queue else FakeEngine()
        built.append(engine)
        return engine

    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    registry = Registry(
        [ModelSpec(name) for name in names],
        on_demand=[ModelSpec(name) for name in on_demand],
        pinned=tuple(pinned),
        clock=clock,
    )
    loader = Loader(registry, build, policy=policy, estimate=lambda spec: 4)
    made = Shelf(registry, loader, built, [])
    yield made
    await loader.close()
    assert all(engine.is_closed for engine in built)


def test_a_broken_model_does_not_keep_the_next_from_loading() -> None:
    async def test() -> None:
        engines = {"a": [FakeEngine(load_error=ModelBroken("torn"))]}
        async with shelf("ab", engines=engines) as s:
            s.loader.start()
            await s.loader.loaded()
            with pytest.raises(ModelBroken, match="torn"):
                s.registry.ready("a")
            assert s.registry.ready("b").spec.name == "b"
            assert s.loader.is_settled

    run(test)


def test_a_bug_while_loading_is_told_and_the_next_model_loads() -> None:
    class Buggy(FakeEngine):
        async def load(self, on_progress) -> None:  # type: ignore[no-untyped-def]
            raise FileNotFoundError("a detail")

    async def test() -> None:
        async with shelf("ab", engines={"a": [Buggy()]}) as s:
            s.loader.start()
            await s.loader.loaded()
            with pytest.raises(ModelBroken, match="FileNotFoundError; see the log"):
                s.registry.ready("a")
            assert s.registry.ready("b")

    run(test)


def test_closing_while_loading_ends_the_load() -> None:
    async def test() -> None:
        engine = StuckEngine()
        async with shelf(engines={"a": [engine]}) as s:
            s.loader.start()
            await until(lambda: s.registry.find("a").progress == LoadProgress("weights", 0.25))
            assert not s.loader.is_settled
        assert engine.is_closed

    run(test)


def test_a_model_that_no_budget_could_hold_is_refused() -> None:
    async def test() -> None:
        async with shelf("a", policy=LoadPolicy(memory_bytes=3)) as s:
            s.loader.start()
            await s.loader.loaded()
            with pytest.raises(ModelBroken, match=r"needs about 4 bytes.*models_memory_bytes"):
                s.registry.ready("a")

    run(test)


def test_pinned_and_busy_models_are_not_evicted() -> None:
    async def test() -> None:
        policy = LoadPolicy(memory_bytes=8, unload_seconds=0.01)
        async with shelf("ab", on_demand="c", pinned="a", policy=policy) as s:
            s.loader.start()
            await s.loader.loaded()
            with s.registry.lease(s.registry.find("b")):
                with pytest.raises(NotReady, match="no room for model 'c'"):
                    await s.loader.acquire("c", 10)
                assert s.status("b") is ModelStatus.READY
            assert s.status("c") is ModelStatus.UNLOADED
            assert (await s.loader.acquire("c", 10)).spec.name == "c"
            assert (s.status("a"), s.status("b")) == (ModelStatus.READY, ModelStatus.UNLOADED)

    run(test)


def test_the_least_recently_used_model_makes_room_and_comes_back_on_request() -> None:
    async def test() -> None:
        async with shelf("ab", on_demand="c", policy=LoadPolicy(memory_bytes=8)) as s:
            s.loader.start()
            await s.loader.loaded()
            with s.registry.lease(s.registry.find("a")):
                pass
            await s.loader.acquire("c", 10)
            assert s.status("b") is ModelStatus.UNLOADED
            await s.loader.acquire("b", 10)
            assert [s.status(name) for name in "abc"] == [
                ModelStatus.UNLOADED,
                ModelStatus.READY,
                ModelStatus.READY,
            ]

    run(test)


def test_a_request_waits_for_a_load_only_as_long_as_it_may() -> None:
    async def test() -> None:
        engine = StuckEngine()
        async with shelf("", on_demand="a", engines={"a": [engine]}) as s:
            with pytest.raises(NotReady, match="still loading"):
                await s.loader.acquire("a", 0.01)
            assert s.status("a") is ModelStatus.LOADING
            waiting = asyncio.create_task(s.loader.acquire("a", 30))
            await asyncio.sleep(0)
            engine.may_finish.set()
            assert (await waiting).status is ModelStatus.READY
            assert len(s.built) == 1

    run(test)


def test_an_unload_waits_for_open_streams_and_then_cuts_them() -> None:
    async def test() -> None:
        async with shelf("a") as s:
            s.loader.start()
            await s.loader.loaded()
            model = s.registry.find("a")
            lease = s.registry.lease(model)
            lease.__enter__()
            unloading = asyncio.create_task(s.unload("a", 30))
            await until(lambda: model.status is ModelStatus.UNLOADING)
            with pytest.raises(ModelUnloaded, match="unloading"):
                await s.loader.acquire("a", 1)
            lease.__exit__(None, None, None)
            await unloading
            assert (s.cut, model.status) == ([], ModelStatus.UNLOADED)
            await s.loader.load(model)
            held = s.registry.lease(model)
            held.__enter__()
            await s.unload("a", 0.01)
            assert (s.cut, model.status) == (["a"], ModelStatus.UNLOADED)
            del held

    run(test)


def test_what_an_operator_unloaded_stays_so_until_it_is_loaded_again() -> None:
    async def test() -> None:
        async with shelf("", on_demand="a") as s:
            s.loader.start()
            await s.loader.acquire("a", 10)
            await s.unload("a")
            with pytest.raises(ModelUnloaded, match="ask the operator"):
                await s.loader.acquire("a", 10)
            await s.loader.load(s.registry.find("a"))
            assert (await s.loader.acquire("a", 10)).status is ModelStatus.READY

    run(test)


def test_an_idle_model_is_unloaded_unless_it_is_pinned_or_in_use() -> None:
    async def test() -> None:
        async with shelf("abc", pinned="a", policy=LoadPolicy(idle_seconds=0.0)) as s:
            s.loader.start()
            await s.loader.loaded()
            with s.registry.lease(s.registry.find("b")):
                await s.loader.unload_idle()
                assert [s.status(name) for name in "abc"] == [
                    ModelStatus.READY,
                    ModelStatus.READY,
                    ModelStatus.UNLOADED,
                ]
            assert (await s.loader.acquire("c", 10)).status is ModelStatus.READY
        async with shelf("b", policy=LoadPolicy(idle_seconds=1000.0)) as s:
            s.loader.start()
            await s.loader.loaded()
            await s.loader.unload_idle()
            assert s.status("b") is ModelStatus.READY

    run(test)


@pytest.mark.parametrize("idle_seconds", [None, 0.0])
def test_a_model_is_kept_as_long_as_was_wished_until_it_is_unloaded(
    idle_seconds: float | None,
) -> None:
    async def test() -> None:
        async with shelf("", on_demand="ab", policy=LoadPolicy(idle_seconds=idle_seconds)) as s:
            a, b = [await s.loader.acquire(name, 10) for name in "ab"]
            s.loader.keep(a, 0.0)
            s.loader.keep(b, math.inf)
            assert (s.loader.seconds_kept(a), s.loader.seconds_kept(b)) == (0.0, None)
            while a.status is not ModelStatus.UNLOADED:  # the sweeper was told
                await asyncio.sleep(0)
            assert b.status is ModelStatus.READY
            assert s.loader.seconds_kept(a) == idle_seconds
            assert (await s.loader.acquire("a", 10)).status is ModelStatus.READY

    run(test)


def test_a_reload_lets_the_old_incarnation_finish_its_streams() -> None:
    async def test() -> None:
        async with shelf("a") as s:
            s.loader.start()
            await s.loader.loaded()
            old = s.registry.find("a")
            lease = s.registry.lease(old)
            lease.__enter__()
            spec = replace(old.spec, aliases=("fresh",))
            new = await s.loader.reload(old, spec, s.cut_short)
            assert s.registry.ready("fresh") is new
            assert not s.built[0].is_closed
            lease.__exit__(None, None, None)
            await until(lambda: s.built[0].is_closed)
            assert s.cut == []

    run(test)


def test_closing_closes_an_old_incarnation_that_still_has_streams() -> None:
    async def test() -> None:
        async with shelf("a") as s:
            s.loader.start()
            await s.loader.loaded()
            old = s.registry.find("a")
            lease = s.registry.lease(old)
            lease.__enter__()
            await s.loader.reload(old, old.spec, s.cut_short)
        assert [engine.is_closed for engine in s.built] == [True, True]
        del lease

    run(test)


def test_a_reload_that_fails_leaves_the_old_incarnation_serving() -> None:
    async def test() -> None:
        engines = {"a": [FakeEngine(), FakeEngine(load_error=ModelBroken("torn"))]}
        async with shelf("a", engines=engines) as s:
            s.loader.start()
            await s.loader.loaded()
            old = s.registry.find("a")
            new = await s.loader.reload(old, old.spec, s.cut_short)
            assert new.error is not None
            assert s.registry.ready("a") is old

    run(test)


def test_a_reload_without_room_for_both_unloads_first() -> None:
    async def test() -> None:
        async with shelf("a", policy=LoadPolicy(memory_bytes=7)) as s:
            s.loader.start()
            await s.loader.loaded()
            old = s.registry.find("a")
            new = await s.loader.reload(old, old.spec, s.cut_short)
            assert s.registry.ready("a") is new is not old
            assert s.built[0].is_closed

    run(test)


def test_a_reload_that_takes_anothers_name_is_refused_and_changes_nothing() -> None:
    async def test() -> None:
        async with shelf("ab") as s:
            s.loader.start()
            await s.loader.loaded()
            old = s.registry.find("a")
            count = len(s.built)
            with pytest.raises(ModelBroken, match="belongs to 'b' already"):
                await s.loader.reload(old, replace(old.spec, aliases=("b",)), s.cut_short)
            assert s.registry.ready("a") is s.registry.ready(None) is old
            assert len(s.built) == count

    run(test)


def test_a_name_that_is_taken_while_a_reload_loads_leaves_no_engine_behind() -> None:
    async def test() -> None:
        async with shelf("a") as s:
            s.loader.start()
            await s.loader.loaded()
            old = s.registry.find("a")
            build = s.loader._build_engine

            def slow(spec: ModelSpec) -> Engine:
                s.registry.add(ModelSpec("fresh"))
                return build(spec)

            s.loader._build_engine = slow
            with pytest.raises(ModelBroken, match="belongs to 'fresh' already"):
                await s.loader.reload(old, replace(old.spec, aliases=("fresh",)), s.cut_short)
            assert s.registry.ready("a") is old
            assert [engine.is_closed for engine in s.built] == [False, True]

    run(test)


def test_what_is_known_to_be_broken_is_not_loaded_at_start() -> None:
    async def test() -> None:
        async with shelf("a") as s:
            model = s.registry.find("a")
            model.status, model.error = ModelStatus.BROKEN, ModelBroken("a/model.toml is torn")
            s.loader.start()
            await s.loader.loaded()
            assert model.status is ModelStatus.BROKEN
            assert s.built == []

    run(test)


def test_a_reload_on_a_gpu_unloads_first() -> None:
    async def test() -> None:
        async with shelf("a") as s:
            s.loader.start()
            await s.loader.loaded()
            old = s.registry.find("a")
            engine = s.built[0]
            engine.info = replace(engine.info, device="cuda:0")
            was_closed = []
            build = s.loader._build_engine

            def watched(spec: ModelSpec) -> Engine:
                was_closed.append(engine.is_closed)
                return build(spec)

            s.loader._build_engine = watched
            new = await s.loader.reload(old, old.spec, s.cut_short)
            assert s.registry.ready("a") is new is not old
            assert was_closed == [True]

    run(test)


async def until(holds) -> None:  # type: ignore[no-untyped-def]
    """Let the loop run until something is so."""
    while not holds():
        await asyncio.sleep(0)
