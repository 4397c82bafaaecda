"""From settings to a running server, as a table of contents."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from llmserve.admission.limits import Limiter
from llmserve.bootstrap.background import run_in_background
from llmserve.bootstrap.container import Container
from llmserve.bootstrap.fleet import build_upkeep, device_of, join
from llmserve.bootstrap.jobs import open_jobs
from llmserve.bootstrap.models import build_catalog, build_loader, build_registry
from llmserve.bootstrap.operations import build_adapters, take_commands
from llmserve.bootstrap.responses import open_responses
from llmserve.bootstrap.service import build_keys, build_recorder, build_service
from llmserve.fleet.run_directory import LIMITS, RunDirectory
from llmserve.observability.ignored_fields import IgnoredFields
from llmserve.observability.loop_lag import watch_loop_lag
from llmserve.observability.metrics import Metrics
from llmserve.observability.recent_problems import RecentProblems
from llmserve.observability.tracing import build_tracer
from llmserve.operations.desired import DesiredModels
from llmserve.operations.fleet_operations import FleetOperations
from llmserve.operations.status import WorkerStatus
from llmserve.operations.worker_operations import WorkerOperations
from llmserve.service.kept_streams import KeptStreams
from llmserve.service.watchdog import Watchdog
from llmserve.settings import Settings


@contextlib.asynccontextmanager
async def run(
    settings: Settings,
    metrics: Metrics,
    directory: RunDirectory | None = None,
    board: int | None = None,
) -> AsyncIterator[Container]:
    """Build everything, start loading models, and on the way out drain and let go, of `directory`
    too. `board` is the workers' board, where the process inherited one.

    Raises:
        ConfigurationError: a model that settings name does not exist or is not served, or its
            manifest is bad; the key file cannot be read; an extra is missing.
    """
    async with contextlib.AsyncExitStack() as stack:
        desired = DesiredModels(directory.held_path if directory is not None else None)
        upkeep = build_upkeep(directory, metrics, desired, stack)
        membership = join(settings, directory, board, stack)
        row = membership.row if membership is not None else None
        tracer = build_tracer(settings.otlp_endpoint)
        stack.callback(tracer.close)

        device = device_of(settings, membership)
        catalog = build_catalog(settings, device)
        is_checked = membership is not None
        registry = build_registry(settings, catalog, desired.known, is_checked=is_checked)
        loader = build_loader(settings, device, metrics, registry, desired)

        recorder = build_recorder(settings, metrics, tracer, stack)
        limiter = Limiter(membership.run_dir / LIMITS if membership is not None else None)
        service = build_service(settings, registry, loader, recorder, limiter)

        problems = RecentProblems().start()
        stack.callback(problems.close)
        status = WorkerStatus(service, registry, loader, membership, device, problems)
        adapters = build_adapters(settings, catalog, service, registry, loader)
        adapters.recall(desired.known)
        own = WorkerOperations(
            service, registry, loader, status, catalog.resolve_untrusted, desired, adapters
        )
        kept = KeptStreams(settings.stream_resume_seconds, settings.stream_resume_bytes)
        await take_commands(own, kept, membership, upkeep, stack)

        watchdog = Watchdog(service, registry, loader, metrics, settings.hang_timeout_seconds, row)
        await run_in_background(watchdog.run(), "watchdog", stack)
        await run_in_background(watch_loop_lag(metrics.loop_lag.observe), "loop-lag", stack)

        responses = await open_responses(settings, stack)
        jobs = await open_jobs(settings, stack)
        stack.push_async_callback(loader.close)
        loader.start()
        stack.push_async_callback(kept.close)
        stack.push_async_callback(service.drain, settings.drain_timeout_seconds)
        yield Container(
            settings=settings,
            metrics=metrics,
            registry=registry,
            loader=loader,
            limiter=limiter,
            service=service,
            keys=build_keys(settings, registry),
            operations=FleetOperations(own, membership),
            tracer=tracer,
            ignored_fields=IgnoredFields(metrics),
            kept_streams=kept,
            membership=membership,
            responses=responses,
            jobs=jobs,
        )
