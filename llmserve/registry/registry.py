"""Which models this process serves. Loads them, lends them, lets go of them."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import time
from collections.abc import Callable, Iterator, Sequence

from loguru import logger

from llmserve.domain import LoadProgress, ModelSpec
from llmserve.engines.base import Engine
from llmserve.errors import LLMServeError, ModelBroken, ModelLoading, ModelNotFound
from llmserve.registry.served import ModelStatus, ServedModel

LOADING_RETRY_SECONDS = 5.0


class Registry:
    """The served models by name; the first is the default. Owned by the event loop."""

    def __init__(
        self, specs: Sequence[ModelSpec], build_engine: Callable[[ModelSpec], Engine]
    ) -> None:
        self._models = [ServedModel(spec, build_engine(spec)) for spec in specs]
        self._by_name = {name: model for model in self._models for name in model.names}
        self._loading: asyncio.Task[None] | None = None

    @property
    def models(self) -> Sequence[ServedModel]:
        """All of them, the default first."""
        return self._models

    def start_loading(self) -> None:
        """Load every model in the background, one after another."""
        self._loading = asyncio.create_task(self._load_all(), name="load-models")

    async def loaded(self) -> None:
        """Wait until every model is ready or broken."""
        if self._loading is not None:
            await asyncio.shield(self._loading)

    def find(self, name: str | None) -> ServedModel:
        """The model of that name or alias; `None` is the default.

        Raises:
            ModelNotFound: names the closest model that is served.
        """
        if name is None:
            return self._models[0]
        model = self._by_name.get(name)
        if model is None:
            shown = name if len(name) <= 100 else name[:100] + "…"
            near = difflib.get_close_matches(name[:200], self._by_name, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "GET /v1/models lists what is"
            raise ModelNotFound(f"model {shown!r} is not served here; {hint}", param="model")
        return model

    def ready(self, name: str | None) -> ServedModel:
        """Like `find`, but only a model that can generate.

        Raises:
            ModelNotFound: unknown name.
            ModelLoading: try again in a while.
            ModelBroken: it could not be loaded.
        """
        model = self.find(name)
        if model.status is ModelStatus.LOADING:
            raise ModelLoading(
                f"model {model.spec.name!r} is still loading ({model.progress.stage}); "
                "GET /health/ready shows its progress",
                retry_after_seconds=LOADING_RETRY_SECONDS,
            )
        if model.error is not None:
            raise ModelBroken(model.error.message)
        return model

    @contextlib.contextmanager
    def lease(self, model: ServedModel) -> Iterator[ServedModel]:
        """Hold a model: it is not let go of while a lease is open."""
        model.open_leases += 1
        try:
            yield model
        finally:
            model.open_leases -= 1

    async def close(self) -> None:
        """Stop loading, then close the engines, last built first."""
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading
        for model in reversed(self._models):
            await model.engine.close()

    async def _load_all(self) -> None:
        for model in self._models:
            try:
                await self._load(model)
            # The loader's boundary: a bug with one model must not keep the next from loading.
            except Exception as error:
                logger.exception("loading {} failed", model.spec.name)
                model.error = ModelBroken(f"loading failed: {type(error).__name__}; see the log")
                model.status = ModelStatus.BROKEN

    async def _load(self, model: ServedModel) -> None:
        def report(progress: LoadProgress) -> None:
            model.progress = progress

        begun = time.monotonic()
        try:
            await model.engine.load(report)
        except LLMServeError as error:
            model.error, model.status = error, ModelStatus.BROKEN
            logger.error("{}", error.message)
            return
        model.status = ModelStatus.READY
        info = model.engine.info
        logger.info(
            "model {} is ready after {:.1f} s: {:.1f}M parameters, {} on {}, {:.0f} MiB, "
            "context {} tokens",
            model.spec.name,
            time.monotonic() - begun,
            info.parameters / 1e6,
            info.dtype,
            info.device,
            info.weight_bytes / 2**20,
            info.max_context,
        )
