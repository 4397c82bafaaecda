"""The only place where objects are wired; what it builds it tears down, in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord
from llmserve.admission.keys import KeyRing
from llmserve.admission.limits import Limiter
from llmserve.domain import EngineKind, LoadProgress, ModelSpec
from llmserve.engines.engine import Engine
from llmserve.engines.factory import build_engine
from llmserve.engines.weights.footprint import footprint
from llmserve.errors import ConfigurationError
from llmserve.fleet.control import ControlServer
from llmserve.fleet.membership import Membership
from llmserve.fleet.run_directory import LIMITS, METRICS, RunDirectory
from llmserve.fleet.upkeep import Upkeep
from llmserve.observability.accounting import AccountingLog
from llmserve.observability.ignored_fields import IgnoredFields
from llmserve.observability.loop_lag import watch_loop_lag
from llmserve.observability.metrics import Metrics
from llmserve.observability.tracing import Tracer, build_tracer
from llmserve.operations.command import Command
from llmserve.operations.desired import Desired, DesiredModels
from llmserve.operations.fleet_operations import FleetOperations
from llmserve.operations.status import WorkerStatus
from llmserve.operations.worker_operations import WorkerOperations
from llmserve.registry.catalog import Catalog
from llmserve.registry.loader import Loader, LoadPolicy
from llmserve.registry.neighbours import Neighbours
from llmserve.registry.references import check_settings, complaints, names_of
from llmserve.registry.registry import Registry
from llmserve.service import Account, Limits, Service
from llmserve.service.watchdog import Watchdog
from llmserve.settings import Settings

if TYPE_CHECKING:
    from llmserve.engines.batching.loop import StepReport


@dataclass(frozen=True, slots=True)
class Container:
    """Everything that lives as long as the server does.

    `membership` is this worker's place among the workers of the box, `None` where the process
    is alone.
    """

    settings: Settings
    metrics: Metrics
    registry: Registry
    service: Service
    keys: KeyRing
    operations: FleetOperations
    tracer: Tracer
    ignored_fields: IgnoredFields
    membership: Membership | None = None


def hold_run_directory(settings: Settings) -> RunDirectory | None:
    """Where this process meets the others, `None` where it is alone. If it cannot be held now,
    the log says so once the server runs, and it is tried again."""
    if settings.run_dir is None:
        return None
    directory = RunDirectory(settings.run_dir)
    with contextlib.suppress(OSError, ConfigurationError):
        directory.keep()
    return directory


def build_metrics(settings: Settings, directory: RunDirectory | None) -> Metrics:
    """The process's series; they exist before the event loop does."""
    return Metrics(
        directory.held_path / METRICS if directory is not None else None,
        compat=settings.metrics_compat,
    )


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
        upkeep = _upkeep(directory, metrics, desired, stack)
        membership = _join(settings, directory, board, stack)
        tracer = build_tracer(settings.otlp_endpoint)
        stack.callback(tracer.close)
        device = _device(settings, membership)
        catalog = Catalog.from_settings(settings.model_copy(update={"device": device}))
        registry = _registry(settings, catalog, desired.known, is_checked=membership is not None)
        neighbours = Neighbours(
            registry, _weights, settings.models_memory_bytes, 1.0 / _workers_on(device, settings)
        )
        loader = Loader(
            registry,
            lambda spec: _engine(spec, settings, device, metrics, neighbours),
            policy=LoadPolicy(
                memory_bytes=settings.models_memory_bytes,
                idle_seconds=settings.idle_unload_seconds,
                unload_seconds=settings.unload_timeout_seconds,
            ),
            estimate=lambda spec: _estimate(spec, settings),
        )
        service = Service(
            registry,
            loader,
            Limits(
                max_waiting=settings.max_waiting,
                wait_timeout_seconds=settings.wait_timeout_seconds,
                request_timeout_seconds=settings.request_timeout_seconds,
            ),
            metrics,
            limiter=Limiter(membership.run_dir / LIMITS if membership is not None else None),
            account=_account(settings, metrics, tracer, stack),
        )
        own = WorkerOperations(
            service,
            WorkerStatus(service, membership, device),
            catalog.resolve_untrusted,
            desired,
        )
        if membership is not None and upkeep is not None:
            await _take_commands(own, membership, upkeep, stack)
        watchdog = Watchdog(
            service,
            metrics,
            settings.hang_timeout_seconds,
            membership.row if membership is not None else None,
        )
        await _in_background(watchdog.run(), "watchdog", stack)
        await _in_background(watch_loop_lag(metrics.loop_lag.observe), "loop-lag", stack)
        stack.push_async_callback(loader.close)
        loader.start()
        stack.push_async_callback(service.drain, settings.drain_timeout_seconds)
        yield Container(
            settings,
            metrics,
            registry,
            service,
            _keys(settings, registry),
            FleetOperations(own, membership),
            tracer,
            IgnoredFields(metrics),
            membership,
        )


def _upkeep(
    directory: RunDirectory | None,
    metrics: Metrics,
    desired: DesiredModels,
    stack: contextlib.AsyncExitStack,
) -> Upkeep | None:
    if directory is None:
        return None
    upkeep = Upkeep(directory, metrics.restore, desired.restore)
    upkeep.look()
    stack.callback(upkeep.close)
    return upkeep


def _join(
    settings: Settings,
    directory: RunDirectory | None,
    board: int | None,
    stack: contextlib.AsyncExitStack,
) -> Membership | None:
    if directory is None:
        return None
    membership = Membership(directory.held_path, settings.workers, board)
    stack.callback(membership.leave)
    return membership


def _device(settings: Settings, membership: Membership | None) -> str:
    """The device of this worker's slot; workers beyond the last device begin anew."""
    if not settings.devices:
        return settings.device
    number = membership.number if membership is not None else 0
    return settings.devices[number % len(settings.devices)]


def _registry(
    settings: Settings, catalog: Catalog, desired: Desired, *, is_checked: bool
) -> Registry:
    """`is_checked`: a supervisor has read the manifests before. One that was broken since must not
    keep the other models from a worker that replaces another."""
    wanted = desired.applied_to(settings.models)
    if is_checked:
        specs, broken = catalog.resolve_each(wanted)
    else:
        specs, broken = catalog.resolve_all(wanted), {}
    on_demand = catalog.served_on_demand(settings, specs, are_checked=is_checked)
    # Later a name may mean what an operator unloaded since the start, which was checked.
    if not desired.unloaded and not broken:
        check_settings(settings, names_of((*specs, *on_demand)))
    return Registry(
        specs,
        on_demand=[spec for spec in on_demand if spec.argument not in desired.unloaded],
        pinned=settings.pinned_models,
        default=settings.default_model,
        broken=broken,
    )


def _account(
    settings: Settings, metrics: Metrics, tracer: Tracer, stack: contextlib.AsyncExitStack
) -> Account:
    log = None
    if settings.accounting_log is not None:
        log = AccountingLog(
            settings.accounting_log, settings.accounting_max_bytes, settings.accounting_keep
        )
        stack.callback(log.close)
    return Account(
        metrics, log=log, tracer=tracer, slow_request_seconds=settings.slow_request_seconds
    )


def _keys(settings: Settings, registry: Registry) -> KeyRing:
    def tell_of_unserved(records: Sequence[KeyRecord]) -> None:
        served = {name for model in registry.models for name in model.names}
        for complaint in complaints(records, served, time.time()):
            logger.warning("key file {}: {}", settings.keys_file, complaint)

    return KeyRing(
        (key.get_secret_value() for key in settings.api_keys),
        (key.get_secret_value() for key in settings.admin_keys),
        KeyFile(settings.keys_file) if settings.keys_file is not None else None,
        on_read=tell_of_unserved,
    )


async def _take_commands(
    own: WorkerOperations, membership: Membership, upkeep: Upkeep, stack: contextlib.AsyncExitStack
) -> None:
    async def answer(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        async for message in own.run(Command.from_wire(request)):
            yield message

    control = ControlServer(membership.socket, answer)
    await control.keep()
    stack.push_async_callback(control.close)
    await _in_background(upkeep.run(control), "upkeep", stack)


async def _in_background(
    work: Coroutine[Any, Any, None], name: str, stack: contextlib.AsyncExitStack
) -> None:
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)


def _estimate(spec: ModelSpec, settings: Settings) -> int:
    size = footprint(spec, settings.max_running, settings.kv_cache_bytes)
    if size is None:
        return 0
    return size.weights if spec.engine is EngineKind.THREADED else size.total


def _workers_on(device: str, settings: Settings) -> int:
    """How many workers share this device's memory."""
    if not settings.devices:
        return settings.workers
    counted = (settings.devices[n % len(settings.devices)] for n in range(settings.workers))
    return max(1, sum(1 for other in counted if other == device))


def _measure_step(metrics: Metrics, model: str, report: StepReport) -> None:
    """Called on the step loop's thread."""
    metrics.step_time.labels(model).observe(report.seconds)
    metrics.iteration_tokens.labels(model).observe(report.tokens)


def _weights(spec: ModelSpec) -> int:
    size = footprint(spec, None)
    return size.weights if size is not None else 0


def _engine(
    spec: ModelSpec, settings: Settings, device: str, metrics: Metrics, neighbours: Neighbours
) -> Engine:
    def fetch(spec: ModelSpec, on_progress: Callable[[LoadProgress], None]) -> Path:
        if spec.path is not None:
            return spec.path
        assert spec.hub_id is not None, "a spec has a path or a hub id"
        from llmserve.registry.hub import pull

        token = settings.hf_token.get_secret_value() if settings.hf_token else None
        return pull(
            spec.hub_id,
            settings.models_dir,
            revision=spec.revision,
            endpoint=settings.hf_endpoint,
            token=token,
            progress=on_progress,
        )

    return build_engine(
        spec,
        max_running=settings.max_running,
        torch_threads=settings.torch_threads,
        fetch=fetch,
        kv_cache_bytes=settings.kv_cache_bytes,
        worker_share=1.0 / _workers_on(device, settings),
        memory_share=partial(neighbours.share, spec),
        max_tokens_per_step=settings.max_tokens_per_step,
        prefix_caching=settings.prefix_caching,
        torch_compile=settings.torch_compile,
        cache_dir=settings.cache_dir,
        on_step=partial(_measure_step, metrics, spec.name),
    )
