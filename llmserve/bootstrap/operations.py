"""What operators' commands meet in this worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from llmserve.bootstrap.background import run_in_background
from llmserve.fleet.control import ControlServer
from llmserve.fleet.membership import Membership
from llmserve.fleet.upkeep import Upkeep
from llmserve.operations import resuming
from llmserve.operations.adapters import AdapterOperations
from llmserve.operations.command import Command
from llmserve.operations.worker_operations import WorkerOperations
from llmserve.registry.adapter_sources import AdapterSources
from llmserve.registry.catalog import Catalog
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Service
from llmserve.service.kept_streams import KeptStreams
from llmserve.settings import Settings


def build_adapters(
    settings: Settings, catalog: Catalog, service: Service, registry: Registry, loader: Loader
) -> AdapterOperations:
    """What operators' commands for adapters meet."""
    folders = (settings.models_dir, *map(Path, settings.adapter_dirs))
    sources = AdapterSources(catalog.resolve, folders)
    return AdapterOperations(service, registry, loader.adapters, sources)


async def take_commands(
    own: WorkerOperations,
    kept: KeptStreams,
    membership: Membership | None,
    upkeep: Upkeep | None,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Answer on this worker's control socket, which `upkeep` keeps in its place; a process that is
    alone has none."""
    if membership is None or upkeep is None:
        return

    async def answer(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        is_reader = request.get("kind") == resuming.KIND
        lines = resuming.answer(kept, request) if is_reader else own.run(Command.from_wire(request))
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield line

    control = ControlServer(membership.socket, answer)
    await control.keep()
    stack.push_async_callback(control.close)
    await run_in_background(upkeep.run(control), "upkeep", stack)
