"""An engine that is built only when its model's files are here and what it needs is imported."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmserve.domain import (
    Caller,
    EngineInfo,
    EngineStats,
    LoadProgress,
    ModelSpec,
    Prompt,
    WarmReport,
)
from llmserve.engines.engine import Engine, Hold
from llmserve.engines.heavy import ENCODING, LIBRARIES, import_engines
from llmserve.engines.progress import OnProgress, interruptible
from llmserve.engines.weights.purpose import purposes_in
from llmserve.errors import LLMServeError

if TYPE_CHECKING:
    from llmserve.engines.options import Fetch
    from llmserve.text.tokenizer import Tokenizer

T = TypeVar("T")


class DeferredEngine(Engine):
    """Downloads the model if need be, has an engine built for the folder that it finds, and loads
    that. Nothing here needs torch before `load`."""

    def __init__(self, spec: ModelSpec, fetch: Fetch, build: Callable[[Path], Engine]) -> None:
        self._spec = spec
        self._fetch = fetch
        self._build = build
        self._engine: Engine | None = None
        self._is_closing = False
        self._fetcher = ThreadPoolExecutor(1, f"generate-fetch-{spec.name}")

    @property
    def serving(self) -> Engine:
        return self._built

    @property
    def capacity(self) -> int:
        """Of the engine that was built; only after `load`."""
        return self._built.capacity

    @property
    def info(self) -> EngineInfo:
        return self._built.info

    async def load(self, on_progress: OnProgress) -> None:
        """Fetch, build, and load what was built."""
        loop = asyncio.get_running_loop()
        folder = await loop.run_in_executor(self._fetcher, self._fetched, on_progress)
        await asyncio.to_thread(self._fetcher.shutdown)
        self._engine = self._build(folder)
        await self._engine.load(on_progress)

    def stats(self) -> EngineStats:
        return self._engine.stats() if self._engine is not None else EngineStats()

    async def read(
        self, work: Callable[[Tokenizer], T], *, size: int, caller: Caller, hold: Hold
    ) -> T:
        return await self._built.read(work, size=size, caller=caller, hold=hold)

    def fail_preparing(self, error: LLMServeError) -> int:
        return self._engine.fail_preparing(error) if self._engine is not None else 0

    async def warm(self, prompts: Sequence[str], prefixes: Sequence[Prompt]) -> WarmReport:
        return await self._built.warm(prompts, prefixes)

    async def close(self) -> None:
        """Stop the download, or the engine."""
        self._is_closing = True
        await asyncio.to_thread(self._fetcher.shutdown)
        if self._engine is not None:
            await self._engine.close()

    @property
    def _built(self) -> Engine:
        assert self._engine is not None, "the engine is not loaded"
        return self._engine

    def _fetched(self, on_progress: OnProgress) -> Path:
        """Everything that blocks."""
        spec = self._spec
        report = interruptible(on_progress, lambda: self._is_closing, spec.name)
        import_engines(report, LIBRARIES)
        folder = self._fetch(spec, report)
        if purposes_in(folder, spec.engine, is_described=spec.encoding is not None):
            importlib.import_module(ENCODING)
        report(LoadProgress("preparing the engine"))
        return folder
