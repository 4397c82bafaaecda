"""A base with adapters over a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fake_engine import AdaptingEngine

from llmserve.domain import AdapterSpec, ModelSpec
from llmserve.errors import ConfigurationError, LLMServeError
from llmserve.registry.adapter_loader import AdapterLoader
from llmserve.registry.load_policy import LoadPolicy
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ServedModel
from llmserve.registry.served_adapter import ServedAdapter


def fetched(spec: AdapterSpec) -> Path:
    if spec.path is None:
        raise ConfigurationError(f"the hub has no {spec.hub_id}")
    return spec.path


def nobody_is_cut(adapter: ServedAdapter, error: LLMServeError) -> None:
    raise AssertionError(f"{adapter.name} was cut short: {error}")


@dataclass
class Shelf:
    """A base with adapters a, b, …, of which so many are loaded at once."""

    registry: Registry
    loader: Loader
    engines: list[AdaptingEngine] = field(default_factory=list)

    @property
    def model(self) -> ServedModel:
        return self.registry.find("base")

    @property
    def engine(self) -> AdaptingEngine:
        return self.engines[-1]

    def adapter(self, name: str) -> ServedAdapter:
        return self.model.adapters[name]

    @property
    def loaded(self) -> list[str]:
        names = [a.spec.name for a in self.model.adapters.values() if a.info is not None]
        assert set(names) == set(self.engine.loaded)
        return names

    async def acquire(self, name: str, timeout: float = 30.0) -> ServedAdapter:
        adapter = self.adapter(name)
        await self.loader.adapters.acquire(self.model, adapter, timeout)
        return adapter

    async def unload(self, name: str) -> None:
        await self.loader.adapters.unload(self.model, self.adapter(name), nobody_is_cut)


@contextlib.asynccontextmanager
async def shelf(
    names: str = "abc",
    *,
    most: int = 2,
    patience: float = 30.0,
    pinned: Sequence[str] = (),
    initial: str = "",
    on_demand: bool = False,
    problems: Mapping[str, str] | None = None,
) -> AsyncIterator[Shelf]:
    specs = [AdapterSpec(n, path=Path("/x") / n, is_initial=n in initial) for n in names]
    base = ModelSpec("base", aliases=("nick",), adapters=tuple(specs))
    registry = Registry(
        [] if on_demand else [base], on_demand=[base] if on_demand else [], pinned=pinned
    )
    told = problems or {}
    adapters = AdapterLoader(
        registry,
        fetched,
        inspect=lambda spec: told.get(spec.name),
        most=most,
        unload_seconds=patience,
    )
    engines: list[AdaptingEngine] = []

    def build(spec: ModelSpec) -> AdaptingEngine:
        engines.append(AdaptingEngine())
        return engines[-1]

    loader = Loader(registry, build, policy=LoadPolicy(unload_seconds=patience), adapters=adapters)
    made = Shelf(registry, loader, engines)
    loader.start()
    await loader.loaded()
    yield made
    await loader.close()
    for model in registry.models:
        assert all(adapter.info is None for adapter in model.adapters.values())
        assert not any(adapter.open_leases for adapter in model.adapters.values())


async def begun(engine: AdaptingEngine, name: str) -> None:
    async with asyncio.timeout(10):
        while name not in engine.began:
            await asyncio.sleep(0)
