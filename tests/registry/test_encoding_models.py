"""Models that encode in the registry's hands: loaded on demand, counted, unloaded, reloaded."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from tiny_encoders import save_encoder

from llmserve.domain import (
    Caller,
    EncodingPurpose,
    EncodingRequest,
    EngineKind,
    ModelSpec,
)
from llmserve.engines.encoding import loading
from llmserve.engines.encoding.engine import EncodingEngine
from llmserve.engines.factory import build_engine, bytes_needed
from llmserve.engines.options import EngineOptions
from llmserve.engines.weights.footprint import footprint
from llmserve.errors import LLMServeError, ModelBroken
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader, LoadPolicy
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.service import Limits, Recorder, Service

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_thread_left", "_thawed")]


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Every model that was loaded."""
    seen: list[weakref.ref[Any]] = []
    plain = loading.AutoModel.from_pretrained

    def load(*args: Any, **kwargs: Any) -> Any:
        model, found = plain(*args, **kwargs)
        seen.append(weakref.ref(model))
        return model, found

    monkeypatch.setattr(loading.AutoModel, "from_pretrained", load)
    return seen


def loader_of(
    folder: Path, *, memory_bytes: int | None = None, **fields: Any
) -> tuple[Loader, Registry]:
    options = EngineOptions(lambda spec, report: folder, torch_threads=1)
    spec = ModelSpec("enc", **{"path": folder} | fields)
    registry = Registry([], on_demand=[spec])
    loader = Loader(
        registry,
        lambda spec: build_engine(spec, options),
        policy=LoadPolicy(memory_bytes=memory_bytes),
        estimate=lambda spec: bytes_needed(spec, options),
    )
    return loader, registry


def cut_short(model: ServedModel, error: LLMServeError) -> None:
    raise AssertionError("nothing runs")


def test_without_room_it_is_not_loaded(folder: Path) -> None:
    async def test() -> None:
        loader, registry = loader_of(folder, memory_bytes=1000)
        with pytest.raises(ModelBroken, match="models_memory_bytes"):
            await loader.load(registry.find("enc"))
        await loader.close()

    run(test)


def test_one_that_is_broken_says_so(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "modules.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())

    async def test() -> None:
        loader, registry = loader_of(tmp_path)
        model = registry.find("enc")
        await loader.load(model)
        assert model.status is ModelStatus.BROKEN
        assert model.error is not None
        assert "'enc' cannot be loaded" in model.error.message
        await loader.close()

    run(test)


@pytest.mark.parametrize("source", ["path", "hub"])
def test_a_request_loads_it_and_unloading_leaves_nothing(
    folder: Path, alive: list[weakref.ref[Any]], source: str
) -> None:
    fields = {"path": None, "hub_id": "org/enc"} if source == "hub" else {}

    async def test() -> None:
        loader, registry = loader_of(folder, **fields)
        limits = Limits(8, 60.0, 60.0)
        service = Service(registry, loader, limits, Recorder(Metrics()))
        loader.start()
        # Of what is not here yet it is not known that it encodes.
        name = "enc" if source == "hub" else None
        request = EncodingRequest("r", ("the fox",), EncodingPurpose.EMBEDDING, model=name)
        answer = await service.encode(request, Caller())
        assert (answer.model, answer.tokens) == ("enc", (4,))
        model = registry.find("enc")
        assert isinstance(model.engine, EncodingEngine)
        assert model.memory_bytes == model.engine.info.weight_bytes > 0
        new = await loader.reload(model, model.spec, service.cut_short)
        assert isinstance(new.engine, EncodingEngine)
        await loader.unload(new, cut_short)
        gc.collect()
        assert [each() for each in alive] == [None, None]
        await loader.close()

    run(test)


def test_it_is_counted_without_a_cache(folder: Path) -> None:
    size = footprint(ModelSpec("enc", path=folder), None)
    assert size is not None
    assert (size.weights > 50_000, size.cache) == (True, 0)
    generating = ModelSpec("enc", path=folder, engine=EngineKind.BATCHING)
    assert (footprint(generating, None) or size).cache > 0
