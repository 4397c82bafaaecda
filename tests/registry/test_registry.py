"""The registry: names, states and leases."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from fake_engine import FakeEngine

from llmserve.domain import LoadProgress, ModelSpec
from llmserve.errors import ModelBroken, ModelLoading, ModelNotFound
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus


class StuckEngine(FakeEngine):
    """Loads until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.may_finish = asyncio.Event()

    async def load(self, on_progress) -> None:  # type: ignore[no-untyped-def]
        on_progress(LoadProgress("weights", 0.25))
        await self.may_finish.wait()


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    registry = Registry([ModelSpec("demo", aliases=("default",))], lambda spec: FakeEngine())
    with pytest.raises(ModelNotFound, match="did you mean 'demo'"):
        registry.find("dmo")
    with pytest.raises(ModelNotFound) as refused:
        registry.find("x" * 100_000)
    assert len(refused.value.message) < 300
    assert registry.find("default") is registry.find("demo") is registry.find(None)


def test_a_model_is_loading_then_ready_and_shows_its_progress() -> None:
    async def test() -> None:
        engine = StuckEngine()
        registry = Registry([ModelSpec("demo")], lambda spec: engine)
        registry.start_loading()
        await asyncio.sleep(0)
        assert registry.models[0].progress == LoadProgress("weights", 0.25)
        with pytest.raises(ModelLoading, match="weights"):
            registry.ready("demo")
        engine.may_finish.set()
        await registry.loaded()
        assert registry.ready("demo").status is ModelStatus.READY
        await registry.close()

    asyncio.run(test())


def test_a_broken_model_does_not_keep_the_next_from_loading() -> None:
    async def test() -> None:
        engines = {"a": FakeEngine(load_error=ModelBroken("torn")), "b": FakeEngine()}
        registry = Registry([ModelSpec("a"), ModelSpec("b")], lambda spec: engines[spec.name])
        registry.start_loading()
        await registry.loaded()
        with pytest.raises(ModelBroken, match="torn"):
            registry.ready("a")
        assert registry.ready("b").spec.name == "b"
        await registry.close()
        assert engines["a"].is_closed
        assert engines["b"].is_closed

    asyncio.run(test())


def test_a_bug_while_loading_is_told_and_the_next_model_loads() -> None:
    class Buggy(FakeEngine):
        async def load(self, on_progress) -> None:  # type: ignore[no-untyped-def]
            raise FileNotFoundError("a detail")

    async def test() -> None:
        engines = {"a": Buggy(), "b": FakeEngine()}
        registry = Registry([ModelSpec("a"), ModelSpec("b")], lambda spec: engines[spec.name])
        registry.start_loading()
        await registry.loaded()
        with pytest.raises(ModelBroken, match="FileNotFoundError; see the log"):
            registry.ready("a")
        assert registry.ready("b")
        await registry.close()
        assert engines["a"].is_closed

    asyncio.run(test())


def test_closing_while_loading_ends_the_load() -> None:
    async def test() -> None:
        engine = StuckEngine()
        registry = Registry([ModelSpec("demo")], lambda spec: engine)
        registry.start_loading()
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await registry.close()
        assert engine.is_closed

    asyncio.run(test())


def test_a_lease_counts_itself() -> None:
    registry = Registry([ModelSpec("demo")], lambda spec: FakeEngine())
    model = registry.find("demo")
    with contextlib.suppress(RuntimeError), registry.lease(model), registry.lease(model):
        assert model.open_leases == 2
        raise RuntimeError
    assert model.open_leases == 0
