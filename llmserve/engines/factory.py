"""Chooses and builds the engine for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.adapters.stored import most_bytes
from llmserve.engines.chosen import ChosenEngine
from llmserve.engines.deferred import DeferredEngine
from llmserve.engines.engine import Engine, Generator
from llmserve.engines.options import EngineOptions
from llmserve.engines.weights.footprint import footprint
from llmserve.engines.weights.purpose import purposes_in, purposes_of

if TYPE_CHECKING:
    from llmserve.engines.batching.compute.cache_shape import CacheShape
    from llmserve.engines.weights.loading import LoadedModel


def build_engine(spec: ModelSpec, options: EngineOptions) -> Engine:
    """The engine that the spec asks for; `auto` takes the best one the model supports."""
    if spec.remote is not None:
        from llmserve.engines.remote.engine import RemoteEngine

        return RemoteEngine(spec, options)
    if spec.path is not None and not purposes_of(spec):
        return _generator(spec, options)

    def build(folder: Path) -> Engine:
        if not purposes_in(folder, spec.engine, is_described=spec.encoding is not None):
            return _generator(spec, options)
        from llmserve.engines.encoding.engine import EncodingEngine

        return EncodingEngine(spec, options, why=_why(spec))

    return DeferredEngine(spec, options.fetch, build)


def _why(spec: ModelSpec) -> str:
    is_asked_for = spec.engine is EngineKind.ENCODING or spec.encoding is not None
    return "asked for by settings" if is_asked_for else "auto: its files say that it encodes"


def _generator(spec: ModelSpec, options: EngineOptions) -> Generator:
    def batching(loaded: LoadedModel, shape: CacheShape, why: str) -> Generator:
        from llmserve.engines.batching.engine import BatchingEngine

        engine = BatchingEngine(spec, loaded, shape, options, why=why)
        logger.info("model {} is served by the batching engine ({}), {} at once, {} CPU threads",
                    spec.name, why, engine.capacity, options.threads())  # fmt: skip
        return engine

    def threaded(loaded: LoadedModel | None, why: str) -> Generator:
        from llmserve.engines.threaded.engine import ThreadedEngine

        engine = ThreadedEngine(spec, options, why=why, loaded=loaded)
        logger.info(
            "model {} is served by the threaded engine ({}), {} at once, {} CPU threads each",
            spec.name, why, engine.capacity, options.threads(engine.capacity)
        )  # fmt: skip
        return engine

    return ChosenEngine(spec, fetch=options.fetch, batching=batching, threaded=threaded)


def bytes_needed(spec: ModelSpec, options: EngineOptions) -> int:
    """About what a model takes of memory once it is loaded, with as many of its adapters as may be
    loaded at once; 0 where its weights are not here yet.

    The threaded engine's KV caches come and go with its requests.
    """
    size = footprint(spec, options.max_running, options.kv_cache_bytes)
    if size is None:
        return 0
    adapters = most_bytes(spec.adapters, options.max_adapters)
    return adapters + (size.weights if spec.engine is EngineKind.THREADED else size.total)
