"""Loads a model, then serves it by the engine that suits it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmserve.domain import (
    AdapterInfo,
    AdapterSpec,
    Caller,
    EngineInfo,
    EngineKind,
    EngineStats,
    GenerationRequest,
    LoadProgress,
    ModelSpec,
    Prompt,
    WarmReport,
)
from llmserve.engines.engine import Generator, Hold
from llmserve.engines.heavy import import_engines
from llmserve.engines.job import Job
from llmserve.engines.progress import OnProgress, interruptible
from llmserve.engines.task import Task
from llmserve.errors import LLMServeError, ModelBroken

if TYPE_CHECKING:
    from llmserve.engines.batching.compute.cache_shape import CacheShape
    from llmserve.engines.options import Fetch
    from llmserve.engines.weights.loading import LoadedModel
    from llmserve.text.spelling import Spelling
    from llmserve.text.tokenizer import Tokenizer

T = TypeVar("T")


class ChosenEngine(Generator):
    """The batching engine where the model supports it. Elsewhere the threaded one, which says
    why; or, where batching was asked for by name, an error that does.

    Whether a model supports it is known only once its weights are there: it is tried. Nothing
    here needs torch before `load`.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        fetch: Fetch,
        batching: Callable[[LoadedModel, CacheShape, str], Generator],
        threaded: Callable[[LoadedModel | None, str], Generator],
    ) -> None:
        self._spec = spec
        self._fetch = fetch
        self._batching = batching
        self._threaded = threaded
        self._engine: Generator | None = None
        self._is_closing = False
        self._loader = ThreadPoolExecutor(1, f"generate-load-{spec.name}")

    @property
    def capacity(self) -> int:
        """Of the engine that was chosen; only after `load`."""
        return self._chosen.capacity

    @property
    def can_pause(self) -> bool:
        return self._chosen.can_pause

    @property
    def spelling(self) -> Callable[[int], Spelling]:
        return self._chosen.spelling

    @property
    def decode(self) -> Callable[[Sequence[int]], str]:
        return self._chosen.decode

    @property
    def info(self) -> EngineInfo:
        """What was loaded and how; only after `load`."""
        return self._chosen.info

    async def load(self, on_progress: OnProgress) -> None:
        """Load the weights, choose, and let the chosen engine warm up."""
        loop = asyncio.get_running_loop()
        build = await loop.run_in_executor(self._loader, self._load, on_progress)
        # While another thread holds a team of OpenMP's, neither team spins between two operations
        # (libgomp counts threads, not running ones), and each of a step's then takes ten times as
        # long to begin. The loader's team ends with its thread.
        await asyncio.to_thread(self._loader.shutdown)
        self._engine = build()
        del build
        on_progress(LoadProgress("preparing the engine"))
        await self._engine.load(on_progress)

    async def prepare(
        self, requests: Sequence[GenerationRequest], caller: Caller, deadline: float, hold: Hold
    ) -> Sequence[Task]:
        return await self._chosen.prepare(requests, caller, deadline, hold)

    async def read(
        self, work: Callable[[Tokenizer], T], *, size: int, caller: Caller, hold: Hold
    ) -> T:
        return await self._chosen.read(work, size=size, caller=caller, hold=hold)

    def fail_preparing(self, error: LLMServeError) -> int:
        return self._engine.fail_preparing(error) if self._engine is not None else 0

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        return await self._chosen.warm(prompts, prefixes)

    def start(self, job: Job) -> None:
        self._chosen.start(job)

    @property
    def adapters(self) -> Sequence[AdapterInfo]:
        return () if self._engine is None else self._engine.adapters

    async def load_adapter(self, spec: AdapterSpec, folder: Path) -> AdapterInfo:
        return await self._chosen.load_adapter(spec, folder)

    async def unload_adapter(self, name: str) -> None:
        await self._chosen.unload_adapter(name)

    def stats(self) -> EngineStats:
        return self._engine.stats() if self._engine is not None else EngineStats()

    async def close(self) -> None:
        """Stop loading, or the chosen engine."""
        self._is_closing = True
        await asyncio.to_thread(self._loader.shutdown)
        if self._engine is not None:
            await self._engine.close()

    @property
    def _chosen(self) -> Generator:
        assert self._engine is not None, "the engine is not loaded"
        return self._engine

    def _load(self, on_progress: OnProgress) -> Callable[[], Generator]:
        """Everything that blocks; returns how to build the engine, on the event loop's thread."""
        report = interruptible(on_progress, lambda: self._is_closing, self._spec.name)
        import_engines(report)
        if self._spec.engine is EngineKind.THREADED:
            return partial(self._threaded, None, "asked for by settings")
        from llmserve.engines.batching.compute.support import Unsupported, cache_shape
        from llmserve.engines.weights.loading import load_model

        folder = self._fetch(self._spec, report)
        loaded = load_model(self._spec, folder, report)
        report(LoadProgress("checking the model"))
        is_asked_for = self._spec.engine is EngineKind.BATCHING
        try:
            shape = cache_shape(loaded)
        except Unsupported as reason:
            if is_asked_for:
                raise ModelBroken(
                    f"model {self._spec.name!r} cannot be served by the batching engine: {reason}; "
                    "set engine to auto or threaded"
                ) from reason
            return partial(self._threaded, loaded, f"auto: batching is not for it: {reason}")
        why = "asked for by settings" if is_asked_for else "auto: the model supports it"
        return partial(self._batching, loaded, shape, why)
