"""Requests for adapters: keys, deadlines, clients that leave, bases on demand; then their names in
what is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bounded import run
from fake_engine import AdaptingEngine
from service.house import House, events_of

from llmserve.domain import AdapterSpec, Caller, Failed, GenerationRequest, ModelSpec
from llmserve.errors import Displaced, Forbidden, ModelLoading, ModelUnloaded
from llmserve.observability.metrics import Metrics
from llmserve.registry.adapter_loader import AdapterLoader
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus
from llmserve.service import Limits, Recorder, Service
from llmserve.service.reading import Reading
from llmserve.service.watchdog import Watchdog


class Adapted(House):
    engine: AdaptingEngine


@contextlib.asynccontextmanager
async def house(*, on_demand: bool = False, most: int = 8) -> AsyncIterator[Adapted]:
    engine = AdaptingEngine(2)
    adapters = tuple(AdapterSpec(name, path=Path(name)) for name in "ab")
    base = ModelSpec("fake", aliases=("nick",), adapters=adapters)
    registry = Registry(
        [] if on_demand else [base], on_demand=[base] if on_demand else [], default="fake"
    )
    loader = Loader(
        registry,
        lambda spec: engine,
        adapters=AdapterLoader(registry, lambda spec: spec.path or Path(), most=most),
    )
    limits = Limits(max_waiting=2, wait_timeout_seconds=60, request_timeout_seconds=60)
    metrics = Metrics()
    service = Service(registry, loader, limits, Recorder(metrics))
    loader.start()
    await loader.loaded()
    h = Adapted(service, engine, registry, metrics)
    yield h
    engine.finish_all()
    [model] = registry.models
    assert service.load(model) == (0, 0)
    assert model.open_leases == 0
    assert not any(adapter.open_leases for adapter in model.adapters.values())
    await service.drain(1)
    await loader.close()


def test_a_key_for_the_base_is_not_for_its_adapters_and_the_other_way_round() -> None:
    async def test() -> None:
        async with house() as h:

            async def opens(model: str | None, *models: str) -> None:
                caller = Caller("k", models=frozenset(models))
                request = GenerationRequest(id="r", prompt="hi", model=model)
                async with h.service.open(request, caller):
                    h.engine.finish_all()

            for model, permission in [
                ("fake:a", "fake"),
                ("nick:a", "nick"),
                ("fake", "fake:a"),
                (None, "fake:*"),
                ("fake:a", "fake:b"),
            ]:
                with pytest.raises(Forbidden):
                    await opens(model, permission)
            assert h.engine.began == []
            for model, permission in [
                ("fake:a", "nick:a"),
                ("fake:a:latest", "fake:a"),
                ("nick:b", "fake:*"),
                (None, "nick"),
            ]:
                await opens(model, permission)

    run(test)


def test_a_request_that_waits_for_its_adapter_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with house() as h:
            h.engine.may_load["a"] = asyncio.Event()
            with pytest.raises(ModelLoading):
                async with h.open(model="fake:a", timeout_seconds=0.01):
                    raise AssertionError
            leaving = asyncio.create_task(h.open(model="fake:a").__aenter__())
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            h.engine.may_load["a"].set()
            async with h.open(model="fake:a") as generation:
                assert h.engine.running[0].token_task.adapter == "a"
                h.engine.finish_all()
                await events_of(generation)

    run(test)


def test_the_base_is_loaded_first_and_then_the_adapter() -> None:
    async def test() -> None:
        async with house(on_demand=True) as h, h.open(model="fake:b") as generation:
            assert generation.model == "fake:b"
            assert h.registry.find("fake").status is ModelStatus.READY
            assert list(h.engine.loaded) == ["b"]
            h.engine.finish_all()

    run(test)


def test_what_needs_the_tokenizer_alone_loads_no_adapter() -> None:
    async def test() -> None:
        async with house() as h:
            reading = Reading("r", "fake:a", lambda tokenizer: tokenizer.encode("abc"), 3)
            model, ids = await h.service.read(reading, Caller())
            assert (model.spec.name, len(ids)) == ("fake", 3)
            assert (
                await h.service.count(GenerationRequest("r", "abcd", model="nick:a"), Caller()) == 4
            )
            assert h.engine.began == []
            assert (await h.service.awaken("nick:a", Caller(), 1.0)).name == "fake:a"
            assert h.engine.began == ["a"]

    run(test)


def test_an_unload_cuts_streams_of_the_adapter_alone() -> None:
    async def test() -> None:
        async with house() as h, h.open(model="fake:a") as mine, h.open() as other:
            adapter = h.registry.resolve("fake:a").adapter
            assert adapter is not None
            h.service.cut_short(error=ModelUnloaded("gone"), adapter=adapter)
            assert isinstance(mine.terminal, Failed)
            assert other.terminal is None
            h.engine.finish_all()

    run(test)


def test_background_work_gives_way_to_an_eviction() -> None:
    async def test() -> None:
        async with house(most=1) as h:
            behind = Caller("b", is_background=True)
            request = GenerationRequest(id="r", prompt="hi", model="fake:a")
            loader = Loader(h.registry, lambda spec: h.engine)
            watchdog = Watchdog(h.service, h.registry, loader, h.metrics, 60.0, None)
            async with h.service.open(request, behind) as generation:
                waiting = asyncio.create_task(h.open(model="fake:b").__aenter__())
                async with asyncio.timeout(10):
                    while h.registry.resolve("fake:a").status is ModelStatus.READY:
                        await asyncio.sleep(0)
                watchdog.beat()
                assert isinstance(generation.terminal, Failed)
                assert isinstance(generation.terminal.error, Displaced)
                h.engine.finish_all()
            opened = await waiting
            assert opened.model == "fake:b"
            opened.close()

    run(test)


def test_series_of_requests_have_the_adapters_name_and_the_queue_its_bases() -> None:
    async def test() -> None:
        async with house() as h:
            async with h.open(model="nick:a") as generation:
                lines = h.metrics.render().decode()
                assert 'llmserve_num_requests_running{model="fake"} 1.0' in lines
                h.engine.say(h.engine.running[0], "x")
                h.engine.finish_all()
                await events_of(generation)
            loader = Loader(h.registry, lambda spec: h.engine)
            Watchdog(h.service, h.registry, loader, h.metrics, 60.0, None).beat()
            lines = h.metrics.render().decode()
            assert 'llmserve_adapters_loaded{model="fake"} 1.0' in lines
            assert 'llmserve_generation_tokens_total{model="fake:a"} 1.0' in lines

    run(test)
