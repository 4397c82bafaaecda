"""A model that is unloaded, or could not be loaded, is gone: neither weights nor cache stay."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from transformers import AutoModelForCausalLM

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.batching import engine as batching
from llmserve.engines.engine import Engine
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions
from llmserve.errors import LLMServeError, ModelBroken
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel

pytestmark = pytest.mark.usefixtures("no_thread_left", "_thawed")


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Every model that was loaded."""
    seen: list[weakref.ref[Any]] = []
    plain = AutoModelForCausalLM.from_pretrained

    def load(*args: Any, **kwargs: Any) -> Any:
        model, told = plain(*args, **kwargs)
        seen.append(weakref.ref(model))
        return model, told

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    return seen


def make_loader(folder: Path, kind: EngineKind) -> tuple[Loader, ServedModel]:
    options = EngineOptions(lambda spec, report: folder, max_running=2, torch_threads=1)

    def build(spec: ModelSpec) -> Engine:
        return build_engine(spec, options)

    spec = ModelSpec("tiny", path=folder, dtype="float32", device="cpu", engine=kind)
    registry = Registry([spec])
    return Loader(registry, build), registry.find(None)


def cut_short(model: ServedModel, error: LLMServeError) -> None:
    raise AssertionError("nothing runs")


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_an_unloaded_model_is_gone(
    tiny_model: Path, models: list[weakref.ref[Any]], kind: EngineKind
) -> None:
    async def test() -> None:
        loader, model = make_loader(tiny_model, kind)
        await loader.load(model)
        assert model.status is ModelStatus.READY
        assert [alive() is not None for alive in models] == [True]
        await loader.unload(model, cut_short)
        assert model.status is ModelStatus.UNLOADED
        assert [alive() for alive in models] == [None]
        await loader.load(model)
        assert model.status is ModelStatus.READY
        await loader.close()
        assert [alive() for alive in models] == [None, None]

    run(test)


@pytest.mark.parametrize("error", [ModelBroken("no room for the KV cache"), ValueError("odd")])
def test_a_model_that_cannot_be_built_is_gone(
    tiny_model: Path,
    models: list[weakref.ref[Any]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def build(loaded: Any, *args: Any, **kwargs: Any) -> Any:
        assert loaded.model is not None
        raise error

    async def test() -> None:
        monkeypatch.setattr(batching, "build_computation", build)
        loader, model = make_loader(tiny_model, EngineKind.AUTO)
        await loader.load(model)
        assert model.status is ModelStatus.BROKEN
        assert model.error is not None
        gc.collect()
        assert [alive() for alive in models] == [None]
        await loader.close()

    run(test)


def test_a_load_that_nobody_waits_for_any_more_leaves_nothing(
    tiny_model: Path, models: list[weakref.ref[Any]]
) -> None:
    async def test() -> None:
        loader, model = make_loader(tiny_model, EngineKind.BATCHING)
        loader.start()
        while not models:
            await asyncio.sleep(0)
        await loader.close()
        gc.collect()
        assert [alive() for alive in models] == [None]
        assert model.engine is None

    run(test)
