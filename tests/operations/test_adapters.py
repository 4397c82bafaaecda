"""What operators do to adapters: what cannot be served, what is replaced; then what later workers
know of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from fake_engine import AdaptingEngine
from lora import write_config

from llmserve.domain import AdapterSource, ModelSpec
from llmserve.errors import InvalidRequest, ModelNotFound
from llmserve.observability.metrics import Metrics
from llmserve.observability.recent_problems import RecentProblems
from llmserve.operations.adapters import AdapterOperations
from llmserve.operations.command import Command, Kind
from llmserve.operations.desired import DesiredModels
from llmserve.operations.reply import checked
from llmserve.operations.status import WorkerStatus
from llmserve.operations.worker_operations import WorkerOperations
from llmserve.registry.adapter_loader import AdapterLoader
from llmserve.registry.adapter_sources import AdapterSources
from llmserve.registry.catalog import Catalog
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus
from llmserve.service import Limits, Recorder, Service
from llmserve.settings import Settings


@dataclass
class Worker:
    """One worker of a box that serves `base`, whose own adapter is `own`."""

    registry: Registry
    loader: Loader
    operations: WorkerOperations
    desired: DesiredModels
    engines: dict[str, AdaptingEngine]

    async def do(self, kind: Kind, model: str, **fields: Any) -> dict[str, Any]:
        """The last message of a command, as another worker would check it."""
        command = Command.from_wire(Command(kind, model, **fields).to_wire())
        replies = [reply async for reply in self.operations.run(command)]
        assert all(checked(reply, kind) == reply for reply in replies)
        return replies[-1]

    async def load(self, model: str, source: Path | str, *aliases: str) -> dict[str, Any]:
        adapter = AdapterSource(model.rpartition(":")[2], str(source), aliases=aliases)
        return await self.do(Kind.LOAD, model, adapter=adapter)

    @property
    def loaded(self) -> dict[str, Path]:
        return self.engines["base"].loaded


@contextlib.asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[Worker]:
    catalog = Catalog.from_settings(Settings(models_dir=folder))
    desired = DesiredModels(folder)
    registry = Registry(catalog.resolve_all(desired.known.applied_to(["base"])))
    engines: dict[str, AdaptingEngine] = {}

    def build(spec: ModelSpec) -> AdaptingEngine:
        engines[spec.name] = AdaptingEngine()
        return engines[spec.name]

    adapters = AdapterLoader(registry, lambda spec: spec.path or Path("hub"))
    loader = Loader(registry, build, adapters=adapters)
    limits = Limits(max_waiting=1, wait_timeout_seconds=1, request_timeout_seconds=1)
    service = Service(registry, loader, limits, Recorder(Metrics()))
    status = WorkerStatus(service, registry, loader, None, "cpu", RecentProblems())
    sources = AdapterSources(catalog.resolve, (folder,))
    own = AdapterOperations(service, registry, adapters, sources)
    own.recall(desired.known)
    operations = WorkerOperations(
        service, registry, loader, status, catalog.resolve_untrusted, desired, own
    )
    loader.start()
    await loader.loaded()
    yield Worker(registry, loader, operations, desired, engines)
    await loader.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for path in ("base/adapters/own", "late", "other/adapters/own"):
        write_config(tmp_path / path)
    for name in ("base", "other"):
        (tmp_path / name / "config.json").write_text("{}")
    return tmp_path


def test_one_that_cannot_be_served_is_told_and_does_not_stay(models: Path) -> None:
    async def test() -> None:
        async with worker(models) as w:
            refusal = InvalidRequest("its rank is 512")
            w.engines["base"].load_errors["late"] = refusal
            told = await w.load("base:late", models / "late", "late")
            assert (told["error"]["message"], told["error"]["status"]) == (refusal.message, 400)
            for name in ("late", "base:late"):
                with pytest.raises(ModelNotFound):
                    w.registry.resolve(name)
            assert w.desired.known.adapters == ()
            own = await w.do(Kind.LOAD, "base:own")
            assert own["model"] == "base:own"

    run(test)


def test_what_replaces_another_and_fails_leaves_that_one_as_it_was(models: Path) -> None:
    async def test() -> None:
        async with worker(models) as w:
            await w.do(Kind.LOAD, "base:own")
            w.engines["base"].load_errors["own"] = InvalidRequest("no")
            told = await w.load("base:own", models / "late")
            assert told["event"] == "error"
            w.engines["base"].load_errors.clear()
            told = await w.load("base:own", models / "late", "base")
            assert "the name 'base' belongs to 'base'" in told["error"]["message"]
            model = w.registry.find("base")
            await w.loader.adapters.acquire(model, model.adapters["own"], 1.0)
            assert w.loaded == {"own": models / "base" / "adapters" / "own"}

    run(test)


def test_commands_that_make_no_sense_are_refused(models: Path) -> None:
    async def test() -> None:
        async with worker(models) as w:
            for kind in (Kind.WARM, Kind.DRAIN):
                told = await w.do(kind, "base:own")
                assert "name its base" in told["error"]["message"]
            assert (await w.do(Kind.UNLOAD, "base:none"))["error"]["status"] == 404
            told = await w.load("base:own:more", models / "late")
            assert "is an adapter itself" in told["error"]["message"]
            told = await w.load("nobody:late", models / "late")
            assert told["error"]["status"] == 404
            told = await w.do(Kind.LOAD, "base:none")
            assert "has no adapter 'none'; it has own" in told["error"]["message"]
            told = await w.load("base:late", models / "late", "own")
            assert told["event"] == "done", "`own` alone is nobody's name"
            told = await w.load("base:more", models / "late", "base:own")
            assert "the name 'base:own' belongs to" in told["error"]["message"]

    run(test)


def test_an_adapter_is_loaded_with_its_base_where_neither_is_served(models: Path) -> None:
    async def test() -> None:
        async with worker(models) as w:
            assert (await w.do(Kind.LOAD, "other:own"))["model"] == "other:own"
            assert list(w.engines["other"].loaded) == ["own"]
            await w.do(Kind.UNLOAD, "other")
            assert w.registry.resolve("other:own").status is ModelStatus.UNLOADED
            await w.do(Kind.LOAD, "other:own")
            assert list(w.engines["other"].loaded) == ["own"]
        async with worker(models) as w:
            assert list(w.engines["other"].loaded) == ["own"]

    run(test)


def test_a_reload_reads_the_files_again_and_the_same_one_is_loaded_once(models: Path) -> None:
    async def test() -> None:
        async with worker(models) as w:
            for kind in (Kind.LOAD, Kind.LOAD, Kind.RELOAD):
                assert (await w.do(kind, "base:own"))["event"] == "done"
            assert w.engines["base"].began == ["own", "own"]

    run(test)


def test_workers_that_come_later_have_what_was_loaded_and_not_what_was_unloaded(
    models: Path,
) -> None:
    async def test() -> None:
        async with worker(models) as w:
            await w.load("base:late", models / "late", "later")
            await w.do(Kind.UNLOAD, "base:own")
        async with worker(models) as w:
            assert w.loaded == {"late": models / "late"}
            assert w.registry.resolve("later").name == "base:late"
            assert not w.registry.resolve("base:own").adapter.is_on_demand  # type: ignore[union-attr]
            await w.do(Kind.UNLOAD, "later")
            await w.do(Kind.LOAD, "base:own")
        async with worker(models) as w:
            assert list(w.loaded) == ["own"]
            with pytest.raises(ModelNotFound):
                w.registry.resolve("later")

    run(test)


def test_what_is_gone_from_the_disk_meanwhile_breaks_no_worker(models: Path) -> None:
    async def test() -> None:
        async with worker(models) as w:
            write_config(models / "base" / "adapters" / "new")
            await w.do(Kind.LOAD, "base:new")
        (models / "base" / "adapters" / "new" / "adapter_config.json").unlink()
        (models / "base" / "adapters" / "new").rmdir()
        async with worker(models) as w:
            assert w.registry.find("base").status is ModelStatus.READY
            assert w.loaded == {}

    run(test)
