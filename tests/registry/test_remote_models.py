"""The loader and models that other servers serve: nobody waits for them, and they are asked for
again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from bounded import run
from fake_engine import FakeEngine

from llmserve.domain import ModelSpec, RemoteSpec
from llmserve.engines.engine import Engine
from llmserve.errors import ModelBroken
from llmserve.registry import loader as loader_module
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus

FAR = ModelSpec("far", remote=RemoteSpec(("http://a",), "far"), device="remote")
NEAR = ModelSpec("near")


class Stuck(FakeEngine):
    async def load(self, on_progress) -> None:  # type: ignore[no-untyped-def]
        await asyncio.Event().wait()


def broken() -> FakeEngine:
    return FakeEngine(load_error=ModelBroken("nobody there"))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def loader_of(registry: Registry, *engines: FakeEngine) -> Loader:
    queue = list(engines)

    def build(spec: ModelSpec) -> Engine:
        return queue.pop(0) if spec.remote is not None else FakeEngine()

    return Loader(registry, build)


def test_a_model_that_nobody_served_is_there_when_somebody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader_module, "REMOTE_RETRY_SECONDS", 0.01)

    async def test() -> None:
        registry = Registry([FAR])
        loader = loader_of(registry, broken(), broken(), FakeEngine())
        loader.start()
        await loader.loaded()
        with pytest.raises(ModelBroken, match="nobody there"):
            registry.ready("far")
        await until(lambda: registry.find("far").status is ModelStatus.READY)
        await loader.close()

    run(test)


def test_one_that_was_removed_or_unloaded_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader_module, "REMOTE_RETRY_SECONDS", 0.01)

    async def test() -> None:
        registry = Registry([FAR])
        loader = loader_of(registry, broken())
        loader.start()
        await loader.loaded()
        model = registry.find("far")
        await loader.unload(model, lambda *_: None)
        await until(lambda: not loader._again)
        assert model.status is ModelStatus.UNLOADED
        await loader.close()

    run(test)


def test_others_do_not_wait_for_a_server_that_is_slow_to_answer() -> None:
    async def test() -> None:
        registry = Registry([FAR, NEAR])
        stuck = Stuck()
        loader = loader_of(registry, stuck)
        loader.start()
        await until(lambda: registry.find("near").status is ModelStatus.READY)
        assert registry.find("far").status is ModelStatus.LOADING
        await loader.close()
        assert stuck.is_closed

    run(test)
